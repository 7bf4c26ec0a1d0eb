"""Progress bars on a terminal: one for each request, for the image in progress."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from typing import cast

import pytest
from fastapi import Request
from mlx_host._apis.images.progress import ProgressBars, ProgressContext
from mlx_host._apis.images.schema import ImageBody
from mlx_host._apis.images.service import ImageService
from mlx_host._apis.images.settings import ImageSettings
from mlx_host._logs.formats import TerminalHandler
from mlx_host.api import Service
from mlx_host.events import Event, Finished, ImageCompleted, ImagesStarted, Progress
from mlx_host.requests import ImageGenerationRequest
from rich.console import Console

from tests.support.fake_service import ListedService, connected

STARTED = ImagesStarted(prompt_tokens=1, width=16, height=16, steps=2)


@pytest.fixture
def terminal() -> Iterator[io.StringIO]:
    """Log to a terminal."""
    screen = io.StringIO()
    handler = TerminalHandler(console=Console(file=screen, force_terminal=True, width=100))
    logging.getLogger().addHandler(handler)
    yield screen
    logging.getLogger().removeHandler(handler)


def image(number: int) -> list[Event]:
    return [Progress("image", 1, 2, number), Progress("image", 2, 2, number), ImageCompleted(number, 1, 1, b"")]


def test_each_image_has_a_bar(terminal: io.StringIO) -> None:
    with ProgressContext(ProgressBars(), "m", 2) as progress:
        for event in (STARTED, *image(0), *image(1)):
            progress.update(event)
    drawn = terminal.getvalue()
    for number in (1, 2):
        assert f"m: image {number} of 2" in drawn
    for step in (0, 1, 2):
        assert f"step {step} of 2" in drawn


def test_requests_share_the_terminal_until_the_last_one_ends(terminal: io.StringIO) -> None:
    bars = ProgressBars()
    with ProgressContext(bars, "first", 1) as first:
        first.update(STARTED)
        with ProgressContext(bars, "second", 1) as second:
            second.update(STARTED)
            second.update(Progress("image", 1, 2))
        first.update(Progress("image", 2, 2))
    drawn = terminal.getvalue()
    assert "first: image 1 of 1" in drawn
    assert "second: image 1 of 1" in drawn
    terminal.truncate(0)
    with ProgressContext(bars, "third", 1) as third:
        third.update(Progress("image", 1, 2))
    assert terminal.getvalue() == ""


def test_a_failed_request_removes_its_bar(terminal: io.StringIO) -> None:
    bars = ProgressBars()

    def fail() -> None:
        with ProgressContext(bars, "failing", 1) as progress:
            progress.update(STARTED)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    terminal.truncate(0)
    with ProgressContext(bars, "other", 1) as progress:
        progress.update(STARTED)
    assert "other: image 1 of 1" in terminal.getvalue()
    assert "failing" not in terminal.getvalue()


@pytest.mark.parametrize("async_mode", [False, True])
def test_requests_have_a_bar(terminal: io.StringIO, async_mode: bool) -> None:
    async def run() -> None:
        service = ImageService(cast(Service, ListedService([[STARTED, *image(0), Finished()]])), ImageSettings())
        request = ImageGenerationRequest(id="r", model="m", prompt="p", seed=1)
        await service.respond(
            Request({"type": "http", "headers": []}, connected), ImageBody(prompt="p", async_mode=async_mode), request
        )

    asyncio.run(run())
    assert "m: image 1 of 1" in terminal.getvalue()


def test_nothing_is_drawn_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressContext(ProgressBars(), "m", 1) as progress:
        for event in (STARTED, *image(0)):
            progress.update(event)
    assert capfd.readouterr() == ("", "")
