"""Which of its tools a model may call, or must: OpenAI's `tool_choice` of chat completions and of responses.

Chat completions wrap in an object of its own what responses have flat; both shapes are read. Source: the OpenAI SDK's
`types/chat/chat_completion_tool_choice_option_param.py` and `types/responses/tool_choice_*_param.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from mlx_host.errors import InvalidRequest
from mlx_host.requests import Json

Mode = Literal["auto", "none", "required"]
MODES: dict[Any, Mode] = {"auto": "auto", "none": "none", "required": "required"}


class ToolFields(TypedDict):
    """The fields of a ChatRequest about tools."""

    tools: Sequence[Json]
    tool_choice: Mode
    allowed_tools: Sequence[str] | None


def choose(given: str | Mapping[str, Any] | None, tools: Sequence[Json]) -> ToolFields:
    """Read a tool_choice; InvalidRequest names what it lacks or cannot have."""
    match given:
        case None:
            return choose_tools("auto", tools)
        case str():
            if given not in MODES:
                raise _refused(f"tool_choice is {given!r}; it may be {_listed(MODES)} or an object.")
            return choose_tools(MODES[given], tools)
        case {"type": "function"}:
            return choose_tools("required", tools, [_name(given, "tool_choice")])
        case {"type": "allowed_tools"}:
            return _allowed(given, tools)
        case {"type": kind}:
            raise _refused(f"tool_choice of type {kind!r} is not supported by this server; 'function' is.", ".type")
    raise _refused("tool_choice must have a type.", ".type")


def choose_tools(mode: Mode, tools: Sequence[Json], names: Sequence[str] | None = None) -> ToolFields:
    """Return the fields that allow calls of the tools with these names, or of all; InvalidRequest for unknown names."""
    if mode == "none":
        return {"tools": (), "tool_choice": mode, "allowed_tools": None}
    there = [tool["function"]["name"] for tool in tools]
    for name in names or ():
        if name not in there:
            raise _refused(f"tool_choice names the function {name!r}; tools has {_listed(there) or 'none'}.")
    if mode == "required" and not tools:
        raise _refused("tool_choice forces a call, and there are no tools to call.")
    return {"tools": tools, "tool_choice": mode, "allowed_tools": names}


def _allowed(given: Mapping[str, Any], tools: Sequence[Json]) -> ToolFields:
    inside = given.get("allowed_tools", given)
    match inside:
        case {"mode": "auto" | "required" as mode, "tools": [_, *_] as allowed}:
            names = [_name(each, f"tool_choice.tools[{number}]") for number, each in enumerate(allowed)]
            return choose_tools(MODES[mode], tools, names)
    raise _refused("tool_choice of type 'allowed_tools' needs a mode, 'auto' or 'required', and at least one tool.")


def _name(choice: Any, where: str) -> str:
    match choice:
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return name
        case {"type": str(kind)} if kind != "function":
            raise _refused(f"{where} is of type {kind!r}, which is not supported by this server; 'function' is.")
    raise _refused(f"{where} must be of type 'function' and have the name of one.")


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))


def _refused(message: str, where: str = "") -> InvalidRequest:
    return InvalidRequest(message, param=f"tool_choice{where}")


def is_strict(tool: Json) -> bool:
    """Whether the calls of a tool must conform to its schema."""
    return tool["function"].get("strict") is True
