"""Anthropic's tools: which of them the model is offered, and how.

| kind                                       | treatment                                                    |
| ------------------------------------------ | ------------------------------------------------------------ |
| with an `input_schema`                     | offered                                                      |
| client tools: bash, text editor, computer, | offered with the input that their clients execute            |
| memory                                     |                                                              |
| all others: hosted tools, toolsets, future | dropped and listed; a message that could only use hosted     |
| kinds                                      | tools ends with a result that says that they are unavailable |
| deferred (`defer_loading`)                 | offered once the conversation refers to them, or at once if  |
|                                            | the request relies on a hosted tool search                   |

Source: `types/tool_union_param.py` and `types/beta/beta_tool_union_param.py` of the Anthropic SDK, and the tool
descriptions in Anthropic's documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Json

from mlx_host_messages.client_tools import client_tool, is_hosted

VERSION = re.compile(r"_\d{8}$")


@dataclass(frozen=True)
class ToolChange:
    """A tool that a conversation adds, by name or with its definition, or removes.

    `source` is the path that is listed as ignored if there is no such tool; None: nothing is listed.
    """

    name: str
    source: str | None
    definition: dict[str, Any] | None = None
    is_removal: bool = False


class OfferedTools:
    """The tools of one request: `functions` are offered to the model, `hosted` are not.

    `ignored` lists tools that the conversation adds and that cannot be offered. `forced` is the name in tool_choice.
    Raises InvalidRequestError for a malformed tool in `tools`.
    """

    def __init__(
        self, tools: Sequence[dict[str, Any]], changes: Sequence[ToolChange] = (), forced: str | None = None
    ) -> None:
        self.hosted: list[dict[str, Any]] = []
        self.ignored: set[str] = set()
        self._declared: dict[str, Json] = {}
        searches = any(_family(tool).startswith("tool_search_tool") for tool in tools)
        offered: dict[str, None] = {}
        for index, tool in enumerate(tools):
            function = self._function(tool, f"tools.{index}")
            if function is not None:
                name = function["function"]["name"]
                self._declared[name] = function
                if searches or tool.get("defer_loading") is not True or name == forced:
                    offered[name] = None
        for change in changes:
            self._apply(change, offered)
        self.functions = [self._declared[name] for name in offered]

    def _apply(self, change: ToolChange, offered: dict[str, None]) -> None:
        if change.definition is not None:
            # A malformed definition in the history makes no difference to the other tools.
            with suppress(InvalidRequestError):
                function = self._function(change.definition, "tool_addition")
                if function is not None:
                    self._declared[function["function"]["name"]] = function
        if change.name not in self._declared:
            self.ignored.update([] if change.source is None else [change.source])
        elif change.is_removal:
            offered.pop(change.name, None)
        else:
            offered[change.name] = None

    def _function(self, tool: dict[str, Any], path: str) -> Json | None:
        """Return OpenAI's tool; None for a hosted one."""
        kind = tool.get("type")
        if kind is not None and not isinstance(kind, str):
            raise InvalidRequestError(f"{path}.type must be a string.", param=f"{path}.type")
        if is_hosted(tool):
            self.hosted.append(tool)
            return None
        function = client_tool(tool) or _custom(tool, path)
        if tool.get("strict") is True:
            function["function"]["strict"] = True
        return function


def _custom(tool: dict[str, Any], path: str) -> dict[str, Any]:
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise InvalidRequestError(f"{path}.name must be a non-empty string.", param=f"{path}.name")
    if not isinstance(tool.get("input_schema"), dict):
        raise InvalidRequestError(f"{path}.input_schema must be an object.", param=f"{path}.input_schema")
    texts = [tool["description"]] if isinstance(tool.get("description"), str) else []
    if isinstance(tool.get("input_examples"), list) and tool["input_examples"]:
        texts.append("Examples of its input:")
        texts += [json.dumps(example, ensure_ascii=False) for example in tool["input_examples"]]
    # In the order of OpenAI's format: chat templates show the tools to the model as they are.
    function: dict[str, Any] = {"name": tool["name"]}
    if texts:
        function["description"] = "\n".join(texts)
    return {"type": "function", "function": {**function, "parameters": tool["input_schema"]}}


def _family(tool: dict[str, Any]) -> str:
    return VERSION.sub("", tool["type"]) if isinstance(tool.get("type"), str) else ""


@dataclass(frozen=True)
class HostedTool:
    """The content blocks of a hosted tool that is unavailable."""

    use: dict[str, Any]
    result: dict[str, Any]
    text: str


# Families of hosted tools whose results can be an error, and what the tools do.
UNAVAILABLE = {"web_search": "Web search", "web_fetch": "Fetching of web pages", "code_execution": "Code execution"}


def unavailable_tool(tools: OfferedTools, choice: str, forced: str | None, id: str) -> HostedTool | None:
    """Return the blocks that report a hosted tool as unavailable, if it is forced or the only kind of tool offered."""
    candidates = [tool for tool in tools.hosted if _family(tool) in UNAVAILABLE]
    if forced is not None:
        candidates = [tool for tool in candidates if tool.get("name") == forced]
    elif tools.functions or choice == "none":
        return None
    if not candidates:
        return None
    family = _family(candidates[0])
    error = {"type": f"{family}_tool_result_error", "error_code": "unavailable"}
    return HostedTool(
        {"type": "server_tool_use", "id": id, "name": family, "input": {}},
        {"type": f"{family}_tool_result", "tool_use_id": id, "content": error},
        f"{UNAVAILABLE[family]} is not available on this server.",
    )
