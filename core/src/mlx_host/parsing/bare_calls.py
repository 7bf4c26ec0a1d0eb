"""Calls without markup: JSON objects with the name of a tool."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_host.parsing.call_format import CallReader, CallStart
from mlx_host.parsing.damaged_json import read_call_object
from mlx_host.parsing.scanner import CallSyntaxError, ScanGenerator, Scanner

_LINE = "\n{"
# The first key of an object that may be a call; an object with another first key is text.
_KEYS = tuple(f'"{key}"' for key in ("name", "type", "function", "id", "arguments", "parameters"))


@dataclass(frozen=True)
class BareJsonCalls(CallReader):
    """JSON calls separated by semicolons, at the start of the output or of a line but not in a Markdown fence.

    The function must be one of the tools, and the call must have arguments. At the start of the output any function is
    accepted with `any_leading`.
    """

    any_leading: bool = False

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return CallStart("{", inclusive=True, leading=True), CallStart(_LINE, inclusive=True)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (";",)

    @property
    def lookalikes(self) -> tuple[str, ...]:
        # Escape sequences may spell the same keys.
        return (r'(?:(?s:.*)\n)?\s*\{(?s:.*)(?:"name"|"function"|\\u)(?s:.*)',)

    def read(self, s: Scanner) -> ScanGenerator[None]:
        only_tools = not self.any_leading or bool((yield from s.lookahead(_LINE)))
        yield from s.space()
        separator = ";"
        while separator:
            if only_tools:
                yield from self._check_key(s)
            raw = yield from read_call_object(s, only_tools=only_tools)
            if not s.emit_json_call(raw, need_arguments=True, only_tools=only_tools):
                return
            yield from s.space()
            separator = yield from s.optional(";")
            yield from s.space()

    def _check_key(self, s: Scanner) -> ScanGenerator[None]:
        mark = s.mark()
        yield from s.expect("{")
        yield from s.space()
        if not (yield from s.lookahead(*_KEYS)):
            raise CallSyntaxError
        s.rewind(mark)
