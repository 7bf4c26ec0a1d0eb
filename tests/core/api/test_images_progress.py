"""The bars on a terminal: one for each picture, while it is made."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from mlx_host._apis.images.progress import Bars
from mlx_host.events import Event, FinishedImage, ImagesStarted, Progress
from rich.console import Console
from rich.logging import RichHandler

STARTED = ImagesStarted(prompt_tokens=1, width=16, height=16, steps=2)


@pytest.fixture
def terminal() -> Iterator[io.StringIO]:
    """A log that is drawn on a terminal."""
    screen = io.StringIO()
    handler = RichHandler(console=Console(file=screen, force_terminal=True, width=100))
    logging.getLogger().addHandler(handler)
    yield screen
    logging.getLogger().removeHandler(handler)


def picture(number: int) -> list[Event]:
    return [Progress("image", 1, 2, number), Progress("image", 2, 2, number), FinishedImage(number, 1, 1, b"")]


def test_each_picture_has_a_bar(terminal: io.StringIO) -> None:
    with Bars().watch("flux", 2) as watch:
        for event in (STARTED, *picture(0), *picture(1)):
            watch(event)
    drawn = terminal.getvalue()
    for number in (1, 2):
        for step in (0, 1, 2):
            assert f"flux: picture {number} of 2" in drawn
            assert f"step {step} of 2" in drawn


def test_requests_share_the_terminal_and_leave_it_when_they_are_done(terminal: io.StringIO) -> None:
    bars = Bars()
    with bars.watch("first", 1) as first:
        first(STARTED)
        with bars.watch("second", 1) as second:
            second(STARTED)
            second(Progress("image", 1, 2))
        first(Progress("image", 2, 2))
    before = terminal.getvalue()
    assert "first: picture 1 of 1" in before
    assert "second: picture 1 of 1" in before
    with bars.watch("third", 1):
        pass
    assert "third" not in terminal.getvalue()


def test_a_request_that_fails_takes_its_bar_along(terminal: io.StringIO) -> None:
    bars = Bars()

    def fail() -> None:
        with bars.watch("flux", 1) as watch:
            watch(STARTED)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with bars.watch("other", 1) as watch:
        terminal.truncate(0)
        watch(STARTED)
        assert "flux" not in terminal.getvalue()


def test_without_a_terminal_nothing_is_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    with Bars().watch("flux", 1) as watch:
        for event in (STARTED, *picture(0)):
            watch(event)
    assert capfd.readouterr() == ("", "")
