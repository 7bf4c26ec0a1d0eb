"""A call or a thought that no parser read is pointed out: in the answer's header, the stream, the log and a counter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.client import get, post
from tests.support.server import ServerProcess, running_server

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


def body(*said: str, **more: Any) -> dict[str, Any]:
    steps = [["say", text] for text in said]
    return {"messages": [{"role": "user", "content": json.dumps(steps)}], **more}


def ask(server: ServerProcess, request: dict[str, Any]) -> httpx2.Response:
    answer = post(server, request)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture(scope="module")
def bare() -> Iterator[ServerProcess]:
    """A server without a parser."""
    with running_server("--backend", "scripted") as server:
        yield server


@pytest.fixture(scope="module")
def reading() -> Iterator[ServerProcess]:
    """A server that reads Qwen3."""
    with running_server("--backend", "scripted", "--parser", "qwen3") as server:
        yield server


def test_the_parser_to_try_is_named(bare: ServerProcess) -> None:
    answer = ask(bare, body("So <tool", "_call>\n{}", tools=TOOLS))
    warning = answer.headers["x-mlx-host-warning"]
    assert "'<tool_call>'" in warning
    assert "--parser" in warning
    assert "qwen3" in warning
    assert warning in bare.wait_for_line("unparsed markup")
    metrics = get(bare, "/metrics").text
    assert 'mlx_host_unparsed_answers_total{model="scripted"}' in metrics


def test_the_stream_says_so_before_its_end(bare: ServerProcess) -> None:
    lines = ask(bare, body("<think>", "Hm.</think>", stream=True)).text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    assert lines[-2].startswith(": x-mlx-host-warning: the output contains unparsed markup '<think>'")


def test_a_tag_that_is_not_ascii_still_fits_a_header(bare: ServerProcess) -> None:
    warning = ask(bare, body("<｜tool▁calls▁begin｜>")).headers["x-mlx-host-warning"]
    assert "\\uff5ctool\\u2581calls" in warning


def test_what_was_read_or_is_ordinary_text_gives_no_warning(reading: ServerProcess, bare: ServerProcess) -> None:
    answer = ask(reading, body("<think>Hm.</think>", CALL, tools=TOOLS))
    assert answer.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert "x-mlx-host-warning" not in answer.headers
    assert "x-mlx-host-warning" not in ask(bare, body("if a < b: think(a)")).headers


def test_a_call_that_its_own_parser_could_not_read_is_said_to_be_so(reading: ServerProcess) -> None:
    warning = ask(reading, body("<tool_call>\n{oops}\n</tool_call>", tools=TOOLS)).headers["x-mlx-host-warning"]
    assert "parser 'qwen3' could not parse" in warning
