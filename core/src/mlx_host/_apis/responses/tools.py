"""The tools of a request: what the model is offered, and how its calls are returned.

A model knows one flat list of functions. Tools of other types that the client executes are offered as functions, and
the calls are returned as items of the tool's type. Tools that OpenAI executes are dropped and reported as ignored.
Source: the OpenAI SDK's `types/responses/tool_param.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlx_host.api.custom_tools import custom_function
from mlx_host.errors import InvalidRequestError

Json = dict[str, Any]
Kind = Literal["function", "custom", "tool_search"]

TOOL_SEARCH = "tool_search"
SEARCH_PARAMETERS: Json = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What the tool should be able to do."}},
    "required": ["query"],
}


@dataclass(frozen=True)
class ToolOrigin:
    """The tool that a function of the model stands for: its type, its name and its namespace in the request."""

    kind: Kind
    name: str
    namespace: str | None = None


class ToolCatalog:
    """The functions that are offered to the model, with the tools that they stand for.

    `functions` are in the format of chat completions, `ignored` are the names of tools and fields without effect.
    """

    def __init__(self) -> None:
        self.ignored: list[str] = []
        self._functions: dict[str, Json] = {}
        self._origins: dict[str, ToolOrigin] = {}
        self._flat_names: dict[ToolOrigin, str] = {}

    @property
    def functions(self) -> list[Json]:
        """The functions, in the order of the tools."""
        return list(self._functions.values())

    def add_found(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Add the tools that a conversation has added: those that a search found, and additional ones."""
        for item in items:
            if item.get("type") in ("tool_search_output", "additional_tools") and isinstance(item.get("tools"), list):
                for tool in item["tools"]:
                    try:
                        self._add(tool, "tools")
                    except InvalidRequestError:
                        # The history of a conversation is never rejected.
                        self._ignore(f"input.{item['type']}")

    def add_all(self, tools: Iterable[Any], where: str) -> None:
        """Add the tools at the path `where` of the request; InvalidRequestError names an invalid one."""
        given = list(tools)
        # The names of functions outside namespaces do not change, whatever the order.
        for inside in (False, True):
            for number, tool in enumerate(given):
                if (isinstance(tool, Mapping) and tool.get("type") == "namespace") is inside:
                    self._add(tool, f"{where}[{number}]")

    def origin(self, flat_name: str) -> ToolOrigin:
        """Return the tool that a call of the model refers to."""
        return self._origins.get(flat_name, ToolOrigin("function", flat_name))

    def flat_name(self, name: str, namespace: str | None = None, kind: Kind | None = None) -> str:
        """Return the name under which the model is offered a tool; the client's name if the tool is not in the request.

        A tool in a namespace is also found by its name alone, if no other tool has that name.
        """
        found = [
            flat
            for origin, flat in self._flat_names.items()
            if origin.name == name and namespace in (None, origin.namespace) and kind in (None, origin.kind)
        ]
        direct = [flat for flat in found if self._origins[flat].namespace is None]
        if len(found) == 1 or (namespace is None and direct):
            return (direct or found)[0]
        return name if namespace is None else _joined(namespace, name)

    def choice(self, choice: str | Mapping[str, Any] | None) -> str | Json | None:
        """Translate a tool_choice to one that has functions only; InvalidRequestError if it requires an ignored tool.

        Every other tool_choice is returned unchanged.
        """
        if not isinstance(choice, Mapping):
            return choice
        match choice:
            case {"type": "custom" | "function" as kind, "name": str(name)}:
                return {"type": "function", "name": self.flat_name(name, choice.get("namespace"), kind)}
            case {"type": "tool_search"} if TOOL_SEARCH in self._origins:
                return {"type": "function", "name": TOOL_SEARCH}
            case {"type": "allowed_tools"}:
                return self._allowed(choice)
        return dict(choice)

    def _allowed(self, choice: Mapping[str, Any]) -> Json:
        nested = choice.get("allowed_tools")
        inner = nested if isinstance(nested, Mapping) else choice
        tools = inner.get("tools")
        if isinstance(tools, list):
            allowed = [tool for tool in tools if not _is_hosted(tool)]
            if allowed != tools and not allowed:
                raise InvalidRequestError(
                    "tool_choice allows only tools that are not available on this server; allow a function.",
                    param="tool_choice.tools",
                )
            tools = [self.choice(tool) if isinstance(tool, Mapping) else tool for tool in allowed]
        return {"type": "allowed_tools", "mode": inner.get("mode") or "auto", "tools": tools}

    def _add(self, tool: Any, where: str, namespace: str | None = None) -> None:
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        match kind:
            case "function" | "custom":
                name = _required_name(tool, where)
                function = _function(tool, where) if kind == "function" else custom_function(tool, where)
                if (
                    kind == "custom"
                    and "strict" not in function
                    and (tool.get("format") or {}).get("type") == "grammar"
                ):
                    self._ignore("tools.format")
                self._offer(ToolOrigin(kind, name, namespace), function)
            case "namespace" if namespace is None:
                tools = tool.get("tools")
                if not isinstance(tools, list):
                    raise InvalidRequestError(f"{where}.tools must be a list of tools.", param=f"{where}.tools")
                name = _required_name(tool, where)
                for number, inner in enumerate(tools):
                    self._add(inner, f"{where}.tools[{number}]", name)
            case "tool_search" if tool.get("execution") == "client":
                parameters = tool.get("parameters")
                description = tool.get("description")
                function = {
                    "description": description if isinstance(description, str) else "Search for more tools.",
                    "parameters": parameters if isinstance(parameters, dict) else SEARCH_PARAMETERS,
                }
                self._offer(ToolOrigin("tool_search", TOOL_SEARCH), function)
            case str():
                self._ignore(f"tools.{kind}")
            case _:
                raise InvalidRequestError(f"{where}.type must be a string, got {kind!r}.", param=f"{where}.type")

    def _offer(self, origin: ToolOrigin, function: Json) -> None:
        # A tool that a search has found may be in the request as well; the later definition is more recent.
        name = self._flat_names.get(origin)
        if name is None:
            name = base = origin.name if origin.namespace is None else _joined(origin.namespace, origin.name)
            number = 2
            while name in self._origins:
                name, number = f"{base}_{number}", number + 1
        self._flat_names[origin] = name
        self._origins[name] = origin
        self._functions[name] = {"type": "function", "function": {"name": name, **function}}

    def _ignore(self, name: str) -> None:
        if name not in self.ignored:
            self.ignored.append(name)


def _joined(namespace: str, name: str) -> str:
    # The form in which MCP clients name the tools of a server.
    return name if not namespace else f"{namespace}__{name}"


def _is_hosted(tool: Any) -> bool:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    return isinstance(kind, str) and kind not in ("function", "custom", "tool_search")


def _required_name(tool: Mapping[str, Any], where: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(f"{where}.name must be a non-empty string.", param=f"{where}.name")
    return name


def _function(tool: Mapping[str, Any], where: str) -> Json:
    for key, kind, expected in (
        ("description", str, "a string"),
        ("parameters", dict, "an object"),
        ("strict", bool, "a boolean"),
    ):
        if not isinstance(tool.get(key), kind | None):
            raise InvalidRequestError(f"{where}.{key} must be {expected}.", param=f"{where}.{key}")
    # OpenAI's default of `strict` is true. Here it is false, because not every schema can be enforced.
    return {key: tool[key] for key in ("description", "parameters", "strict") if tool.get(key) is not None}
