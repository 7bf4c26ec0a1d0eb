"""--no-enable-auto-tool-choice: a tool_choice of auto, which is also the default, behaves as none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client import post, says
from tests.support.server import ServerProcess, running_server

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "scripted", "--parser", "qwen3", "--no-enable-auto-tool-choice") as server:
        yield server


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
def test_calls_are_text(server: ServerProcess, choice: dict[str, str]) -> None:
    (answer,) = post(server, {"messages": says(CALL), "tools": TOOLS, **choice}).json()["choices"]
    assert answer["message"]["content"] == CALL
    assert answer["finish_reason"] == "stop"
    assert "tool_calls" not in answer["message"]


def test_reasoning_is_read_all_the_same(server: ServerProcess) -> None:
    (answer,) = post(server, {"messages": says("<think>Hm.</think>Yes."), "tools": TOOLS}).json()["choices"]
    assert (answer["message"]["reasoning_content"], answer["message"]["content"]) == ("Hm.", "Yes.")
