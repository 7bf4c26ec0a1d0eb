"""OpenAI's `tool_choice`: the tools that a model may or must call.

Chat completions nest fields that the Responses API has at the top level; both variants are accepted. Source: the
OpenAI SDK's `types/chat/chat_completion_tool_choice_option_param.py` and `types/responses/tool_choice_*_param.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from mlx_host.api.ignored_fields import ByType, KnownFields
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Json

Mode = Literal["auto", "none", "required"]
MODES: dict[Any, Mode] = {"auto": "auto", "none": "none", "required": "required"}
_NAMED = ByType({"function": KnownFields("type", "name", function=KnownFields("name"))})
TOOL_CHOICE_FIELDS = ByType(
    {
        "function": KnownFields("type", "name", function=KnownFields("name")),
        "allowed_tools": KnownFields(*("type", "mode"), tools=_NAMED, allowed_tools=KnownFields("mode", tools=_NAMED)),
    }
)
# The maximum number of names in an error message.
MAX_LISTED = 20


class ToolFields(TypedDict):
    """The fields of a ChatRequest that depend on tool_choice."""

    tools: Sequence[Json]
    tool_choice: Mode
    allowed_tools: Sequence[str] | None


def choose(choice: str | Mapping[str, Any] | None, tools: Sequence[Json]) -> ToolFields:
    """Translate a tool_choice; InvalidRequestError if it is invalid or not supported."""
    match choice:
        case None:
            return tool_fields("auto", tools)
        case str():
            if choice not in MODES:
                raise _invalid(f"tool_choice must be {_listed(MODES)} or an object, got {choice!r}.")
            return tool_fields(MODES[choice], tools)
        case {"type": "function" | "custom"}:
            return tool_fields("required", tools, [_name(choice, "tool_choice")])
        case {"type": "allowed_tools"}:
            return _allowed(choice, tools)
        case {"type": kind}:
            raise _invalid(
                f"tool_choice of type {kind!r} is not supported; use 'function' or 'allowed_tools'.", ".type"
            )
    raise _invalid("tool_choice has no type; use 'function' or 'allowed_tools'.", ".type")


def tool_fields(mode: Mode, tools: Sequence[Json], names: Sequence[str] | None = None) -> ToolFields:
    """Allow the tools with these names, or all if None; InvalidRequestError if a name is unknown or a required tool
    is missing.
    """
    if mode == "none":
        return {"tools": (), "tool_choice": mode, "allowed_tools": None}
    defined = {tool["function"]["name"]: None for tool in tools}
    for name in names or ():
        if name not in defined:
            raise _invalid(
                f"tool_choice: function {name!r} is not defined in tools. Available: {_listed(defined) or 'none'}."
            )
    if mode == "required" and not tools:
        raise _invalid("tool_choice is 'required', but the request has no tools.")
    return {"tools": tools, "tool_choice": mode, "allowed_tools": names}


def _allowed(choice: Mapping[str, Any], tools: Sequence[Json]) -> ToolFields:
    match choice.get("allowed_tools", choice):
        case {"mode": "auto" | "required" as mode, "tools": [_, *_] as allowed}:
            names = [_name(each, f"tool_choice.tools[{number}]") for number, each in enumerate(allowed)]
            return tool_fields(MODES[mode], tools, names)
    raise _invalid("tool_choice of type 'allowed_tools' must have a mode ('auto' or 'required') and at least one tool.")


def _name(choice: Any, path: str) -> str:
    match choice:
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return name
        case {"type": "custom", "custom": {"name": str(name)}} | {"type": "custom", "name": str(name)}:
            return name
        case {"type": str(kind)} if kind not in ("function", "custom"):
            raise _invalid(f"{path} is of type {kind!r}, which is not supported; use 'function'.")
    raise _invalid(f"{path} must be of type 'function' and have a name.")


def _listed(names: Iterable[Any]) -> str:
    listed = [repr(name) for name in names]
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    return ", ".join(listed[:MAX_LISTED]) + more


def _invalid(message: str, path: str = "") -> InvalidRequestError:
    return InvalidRequestError(message, param=f"tool_choice{path}")


def is_strict(tool: Json) -> bool:
    """Whether the calls of a tool must conform to its schema."""
    return tool["function"].get("strict") is True
