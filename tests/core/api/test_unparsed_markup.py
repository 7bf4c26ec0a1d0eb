"""Unparsed tool-call and reasoning markup is reported: in a response header, the stream, the log and a metric."""

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


def body(*texts: str, **more: Any) -> dict[str, Any]:
    steps = [["text", text] for text in texts]
    return {"messages": [{"role": "user", "content": json.dumps(steps)}], **more}


def ask(server: ServerProcess, request: dict[str, Any]) -> httpx2.Response:
    response = post(server, request)
    assert response.status_code == 200, response.text
    return response


@pytest.fixture(scope="module")
def bare() -> Iterator[ServerProcess]:
    """A server without a parser."""
    with running_server("--backend", "scripted") as server:
        yield server


@pytest.fixture(scope="module")
def reading() -> Iterator[ServerProcess]:
    """A server with the qwen3 parser."""
    with running_server("--backend", "scripted", "--parser", "qwen3") as server:
        yield server


def test_the_suggested_parser_is_named(bare: ServerProcess) -> None:
    response = ask(bare, body("So <tool", "_call>\n{}", tools=TOOLS))
    warning = response.headers["x-mlx-host-warning"]
    assert "'<tool_call>'" in warning
    assert "--parser" in warning
    assert "qwen3" in warning
    bare.wait_for_line(warning)
    metrics = get(bare, "/metrics").text
    assert 'mlx_host_unparsed_answers_total{model="scripted"}' in metrics


def test_the_stream_reports_it_before_its_end(bare: ServerProcess) -> None:
    lines = ask(bare, body("<think>", "Hm.</think>", stream=True)).text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    assert lines[-2].startswith(": x-mlx-host-warning: the output contains unparsed markup '<think>'")


def test_markup_that_is_not_ascii_is_escaped_in_the_header(bare: ServerProcess) -> None:
    warning = ask(bare, body("<｜tool▁calls▁begin｜>")).headers["x-mlx-host-warning"]
    assert "\\uff5ctool\\u2581calls" in warning


def test_parsed_markup_and_plain_text_cause_no_warning(reading: ServerProcess, bare: ServerProcess) -> None:
    response = ask(reading, body("<think>Hm.</think>", CALL, tools=TOOLS))
    assert response.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert "x-mlx-host-warning" not in response.headers
    assert "x-mlx-host-warning" not in ask(bare, body("if a < b: think(a)")).headers


def test_a_call_that_the_parser_rejected_is_reported(reading: ServerProcess) -> None:
    warning = ask(reading, body("<tool_call>\n{oops}\n</tool_call>", tools=TOOLS)).headers["x-mlx-host-warning"]
    assert "parser 'qwen3' could not parse" in warning
