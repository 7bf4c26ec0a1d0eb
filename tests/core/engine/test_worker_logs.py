"""Log records of a worker process: an invalid logging call is reported and has no other effect."""

from __future__ import annotations

import logging
from multiprocessing import Pipe

import pytest
from mlx_host._engine.ipc import LogMessage
from mlx_host._engine.worker_main import Channel, PipeHandler


def test_record_that_cannot_be_formatted_is_reported_and_later_ones_are_sent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, theirs = Pipe()
    logger = logging.Logger("library", logging.INFO)
    logger.addHandler(PipeHandler(Channel(theirs)))
    with ours, theirs:
        logger.info("%d tokens", "three")
        logger.info("%d tokens", 4)
        received = ours.recv()
    assert isinstance(received, LogMessage)
    assert received.text == "4 tokens"
    assert "%d format" in capsys.readouterr().err
