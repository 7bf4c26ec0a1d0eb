"""tool_choice in each API: which tools may or must be called."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host.api.tool_choice import choose
from mlx_host.errors import InvalidRequestError

from tests.support.client import error_of, post, text_script
from tests.support.server import ServerProcess

TOOLS: list[Any] = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "auto")]
SUBSET = [{"type": "function", "function": {"name": "g"}}]


@pytest.mark.parametrize(
    ("given", "mode", "allowed"),
    [
        (None, "auto", None),
        ("auto", "auto", None),
        ("required", "required", None),
        ({"type": "function", "function": {"name": "f"}}, "required", ["f"]),
        ({"type": "function", "name": "f"}, "required", ["f"]),
        ({"type": "function", "function": {"name": "auto"}}, "required", ["auto"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": SUBSET}}, "auto", ["g"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
            "required",
            ["g"],
        ),
    ],
)
def test_choices(given: Any, mode: str, allowed: list[str] | None) -> None:
    assert choose(given, TOOLS) == {"tools": TOOLS, "tool_choice": mode, "allowed_tools": allowed}


def test_tool_choice_without_tools() -> None:
    assert choose("none", TOOLS) == {"tools": (), "tool_choice": "none", "allowed_tools": None}
    assert choose(None, []) == {"tools": [], "tool_choice": "auto", "allowed_tools": None}


@pytest.mark.parametrize(
    ("given", "tools", "param", "part"),
    [
        ("any", TOOLS, "tool_choice", "'auto', 'none', 'required'"),
        ("required", [], "tool_choice", "no tools"),
        ({"type": "function", "function": {"name": "h"}}, TOOLS, "tool_choice", "'f', 'g', 'auto'"),
        ({"type": "function", "function": {"name": "f"}}, [], "tool_choice", "Available: none"),
        ({"type": "function"}, TOOLS, "tool_choice", "have a name"),
        ({"type": "function", "function": {"name": 5}}, TOOLS, "tool_choice", "have a name"),
        ({"type": "custom", "custom": {"name": "h"}}, TOOLS, "tool_choice", "'f', 'g', 'auto'"),
        ({"type": "web_search"}, TOOLS, "tool_choice.type", "'web_search' is not supported"),
        ({"function": {"name": "f"}}, TOOLS, "tool_choice.type", "has no type"),
        ({"type": "allowed_tools"}, TOOLS, "tool_choice", "must have a mode"),
        ({"type": "allowed_tools", "allowed_tools": 5}, TOOLS, "tool_choice", "must have a mode"),
        ({"type": "allowed_tools", "mode": "none", "tools": SUBSET}, TOOLS, "tool_choice", "must have a mode"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, TOOLS, "tool_choice", "at least one tool"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp", "server_label": "s"}]},
            TOOLS,
            "tool_choice",
            "tool_choice.tools[0] is of type 'mcp'",
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": SUBSET}, TOOLS[:1], "tool_choice", "'g'"),
    ],
)
def test_invalid_choices_are_rejected(given: Any, tools: list[Any], param: str, part: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        choose(given, tools)
    assert raised.value.param == param
    assert part in raised.value.message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "f"}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": SUBSET}},
    ],
)
def test_a_forced_choice_is_rejected_without_structured_outputs(
    server: ServerProcess, choice: Any, stream: bool
) -> None:
    for path, output in (("/v1/chat/completions", "messages"), ("/v1/responses", "input")):
        tools = TOOLS if output == "messages" else [{"type": "function", **tool["function"]} for tool in TOOLS]
        body = {output: text_script("x"), "tools": tools, "tool_choice": choice, "stream": stream}
        error = error_of(post(server, body, path), 400)
        assert (error["param"], error["code"]) == ("tool_choice", "unsupported_request")
        assert "no structured output" in error["message"]


class CountedName(str):
    """A str that counts comparisons."""

    comparisons = 0
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        CountedName.comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_allowed_tools_are_looked_up_in_linear_time() -> None:
    count = 500
    names = [CountedName(f"f{number}") for number in range(count)]
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    allowed = [{"type": "function", "function": {"name": CountedName(f"f{number}")}} for number in range(count)]
    CountedName.comparisons = 0
    choose({"type": "allowed_tools", "mode": "auto", "tools": allowed}, tools)
    assert CountedName.comparisons <= 10 * count
