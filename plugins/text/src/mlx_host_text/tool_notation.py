"""Describes tools, calls and results as text, for chat templates that do not render them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_host.requests import CallNotation, Json

EXAMPLE = ("example_function", {"example_parameter": "value"})
# Stands for the content of a result.
CONTENT = "\N{OBJECT REPLACEMENT CHARACTER}"


class ToolNotation:
    """The notation of a parser family; without one, history is written in a common format."""

    def __init__(self, notation: CallNotation | None) -> None:
        self._notation = notation
        self._example = "" if notation is None else "\n".join(notation.write_calls([EXAMPLE])[:1])

    @property
    def describes_tools(self) -> bool:
        """Whether calls in this notation are parsed."""
        return bool(self._example)

    def describe(self, tools: Sequence[Json]) -> str:
        """Describe tools, and how to call them."""
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        return (
            "# Tools\n\nYou may call one or more functions to assist with the user query. The functions are described "
            f"within <tools></tools>:\n<tools>\n{listed}\n</tools>\n\n"
            f"To call a function, reply in exactly this format:\n{self._example}"
        )

    def write_calls(self, calls: Sequence[Mapping[str, Any]]) -> str:
        """Write the calls of an assistant message."""
        values = [_values(call["function"]) for call in calls]
        if self._notation is not None and self._example:
            # Formats for a single call are omitted if there are several.
            together = self._notation.write_calls(values)
            if together:
                return together[0]
            return "\n".join(text for value in values for text in self._notation.write_calls([value])[:1])
        return "\n".join(_common_call(*value) for value in values)

    def result_markup(self, name: str | None) -> tuple[str, str]:
        """Return the text before and after the content of a function's result."""
        if self._notation is None:
            written = f"<tool_response>\n{CONTENT}\n</tool_response>"
        else:
            written = self._notation.write_result(name or "", CONTENT)
        before, _, after = written.partition(CONTENT)
        return before, after


def _values(function: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    arguments = function["arguments"]
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except json.JSONDecodeError:
            arguments = {"arguments": arguments}
    return function["name"], arguments if isinstance(arguments, Mapping) else {"arguments": arguments}


def _common_call(name: str, arguments: Mapping[str, Any]) -> str:
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"
