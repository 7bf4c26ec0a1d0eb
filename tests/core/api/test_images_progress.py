"""The progress bars on a terminal: one for each request, which shows the image in progress."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest
from mlx_host._apis.images.progress import ProgressBars, RequestBar
from mlx_host.errors import EngineFailed
from mlx_host.events import Event, FinishedImage, ImagesStarted, Progress
from mlx_host.requests import ImageGenerationRequest
from rich.console import Console
from rich.logging import RichHandler

from tests.support.replies import ListedReply

STARTED = ImagesStarted(prompt_tokens=1, width=16, height=16, steps=2)


@pytest.fixture
def terminal() -> Iterator[io.StringIO]:
    """A log that is drawn on a terminal."""
    screen = io.StringIO()
    handler = RichHandler(console=Console(file=screen, force_terminal=True, width=100))
    logging.getLogger().addHandler(handler)
    yield screen
    logging.getLogger().removeHandler(handler)


def image(number: int) -> list[Event]:
    return [Progress("image", 1, 2, number), Progress("image", 2, 2, number), FinishedImage(number, 1, 1, b"")]


async def read(bars: ProgressBars, reply: ListedReply) -> None:
    async with bars.track(reply) as tracked:
        async for _ in tracked:
            pass


def reply(*batches: list[Event] | EngineFailed, n: int = 1) -> ListedReply:
    return ListedReply(batches, request=ImageGenerationRequest(id="r", model="m", prompt="p", seed=1, n=n))


def test_each_image_has_a_bar(terminal: io.StringIO) -> None:
    asyncio.run(read(ProgressBars(), reply([STARTED, *image(0)], image(1), n=2)))
    drawn = terminal.getvalue()
    for number in (1, 2):
        assert f"m: image {number} of 2" in drawn
    for step in (0, 1, 2):
        assert f"step {step} of 2" in drawn


def test_requests_share_the_terminal_until_the_last_one_ends(terminal: io.StringIO) -> None:
    bars = ProgressBars()
    first, second = RequestBar(bars, "first", 1), RequestBar(bars, "second", 1)
    first.update(STARTED)
    second.update(STARTED)
    second.update(Progress("image", 1, 2))
    second.close()
    first.update(Progress("image", 2, 2))
    drawn = terminal.getvalue()
    assert "first: image 1 of 1" in drawn
    assert "second: image 1 of 1" in drawn
    first.close()
    terminal.truncate(0)
    third = RequestBar(bars, "third", 1)
    third.update(Progress("image", 1, 2))
    third.close()
    assert terminal.getvalue() == ""


def test_a_failed_request_removes_its_bar(terminal: io.StringIO) -> None:
    bars = ProgressBars()
    failing = reply([STARTED], EngineFailed("broken"))
    with pytest.raises(EngineFailed, match="broken"):
        asyncio.run(read(bars, failing))
    assert failing.left
    terminal.truncate(0)
    other = RequestBar(bars, "other", 1)
    other.update(STARTED)
    other.close()
    assert "other: image 1 of 1" in terminal.getvalue()
    assert "m: image" not in terminal.getvalue()


def test_nothing_is_drawn_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    asyncio.run(read(ProgressBars(), reply([STARTED, *image(0)])))
    assert capfd.readouterr() == ("", "")
