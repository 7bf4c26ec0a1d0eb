"""Closing a model ends the processes that it started."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.lm.driver import chat_request, generate_one
from tests.plugins.vlm.conftest import load
from tests.support.media import look


def test_closing_a_model_ends_its_decoder_processes(tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def record(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr("mlx_host_media.pool.subprocess.Popen", record)
    model = load(tiny_qwen)
    try:
        generate_one(model, chat_request(look(1), max_tokens=1))
        assert [process.poll() for process in started] == [None]
    finally:
        model.close()
    assert all(process.poll() is not None for process in started)
