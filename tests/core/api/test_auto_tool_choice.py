"""--no-enable-auto-tool-choice: tool_choice "auto", which is also the default, behaves like "none"."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client import post, text_script
from tests.support.server import ServerProcess, running_server

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "scripted", "--parser", "qwen3", "--no-enable-auto-tool-choice") as server:
        yield server


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
def test_calls_are_text(server: ServerProcess, choice: dict[str, str]) -> None:
    (response,) = post(server, {"messages": text_script(CALL), "tools": TOOLS, **choice}).json()["choices"]
    assert response["message"]["content"] == CALL
    assert response["finish_reason"] == "stop"
    assert "tool_calls" not in response["message"]


def test_reasoning_is_still_parsed(server: ServerProcess) -> None:
    (response,) = post(server, {"messages": text_script("<think>Hm.</think>Yes."), "tools": TOOLS}).json()["choices"]
    assert (response["message"]["reasoning_content"], response["message"]["content"]) == ("Hm.", "Yes.")
