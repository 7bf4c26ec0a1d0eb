"""GLM's notation of a call: an unquoted name, then a tag for each key and each value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, chain
from mlx_host.parsing import (
    Notation,
    ScanGenerator,
    Scanner,
    TagArguments,
    ToolChoice,
    ToolFunction,
    UnquotedValue,
    check_function_name,
    json_object,
    read_arguments,
)

_KEY = re.compile(r"[^\s<>{}]+")
_FUNCTION_NAME = re.compile(r"[^\s<>{}]*")


@dataclass(frozen=True)
class GlmCall(Notation):
    """One call; the models write `gap` after each tag."""

    gap: str

    @property
    def _arguments(self) -> TagArguments:
        return TagArguments(
            "<arg_key>",
            "</arg_key>",
            UnquotedValue("</arg_value>"),
            _KEY,
            gap=self.gap,
            value_opener="<arg_value>",
            after=self.gap,
            glued=True,
        )

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        yield from s.space()
        name = yield from s.take_while(_FUNCTION_NAME)
        yield from s.space()
        # GLM-5 Flash sometimes writes its arguments as JSON after a stray bracket.
        if (yield from s.lookahead("{", ">", "```")):
            yield from s.optional(">")
            raw = yield from read_arguments(s, name, *closers)
            yield from s.space()
            yield from s.optional(*closers)
            s.emit_call(name, raw)
        else:
            s.stream.begin(name)
            arguments = yield from self._arguments.read(s, s.schema(name), closers)
            s.emit_call(name, json_object(arguments))

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        return chain(check_function_name(function, _KEY) + self.gap, self._arguments.grammar(function))

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return f"{name}{self.gap}{self._arguments.write(arguments)}"
