"""The calls of DeepSeek-V3 and V3.1: JSON between special tokens.

V3 writes a fence and the word `function`, V3.1 neither. Checkpoints are used with each other's template, so both
variants are always accepted. The parser of V3.1 also uses this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, chain
from mlx_host.parsing import (
    NAME,
    CallBlock,
    Notation,
    ScanGenerator,
    Scanner,
    ToolChoice,
    ToolFunction,
    check_function_name,
    read_arguments,
)

BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEPARATOR, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"

_NAMES = re.compile(f"{NAME.pattern[:-1]}+")
_SPACE_OR_FENCE = re.compile(r"[\s`]*")


@dataclass(frozen=True)
class DeepSeekCall(Notation):
    """One call; `fenced` is the notation of V3."""

    fenced: bool

    @property
    def starts(self) -> tuple[str, ...]:
        return (CALL,)

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        yield from s.expect(CALL)
        yield from s.space()
        name = yield from s.name()
        yield from s.space()
        yield from s.expect(SEPARATOR)
        yield from s.space()
        if not (yield from s.lookahead("{", "```", CALL_END)):
            name = yield from s.name()
            yield from s.space()
        if (yield from s.optional("```json", "```")):
            yield from s.space()
        arguments = ""
        if not (yield from s.lookahead(CALL_END)):
            arguments = yield from read_arguments(s, name, "```", CALL_END, CALL, END)
            yield from s.take_while(_SPACE_OR_FENCE)
        yield from s.optional(CALL_END)
        s.emit_call(name, arguments)

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        head, tail = self._around(check_function_name(function, _NAMES))
        return chain(head, function.json(), tail)

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        head, tail = self._around(name)
        return head + json.dumps(arguments, ensure_ascii=False) + tail

    def _around(self, name: str) -> tuple[str, str]:
        if self.fenced:
            return f"{CALL}function{SEPARATOR}{name}\n```json\n", f"\n```{CALL_END}"
        return f"{CALL}{name}{SEPARATOR}", CALL_END


V3_CALLS = CallBlock(BEGIN, DeepSeekCall(fenced=True), END, between="\n", bare_starts=(CALL,))
V31_CALLS = CallBlock(BEGIN, DeepSeekCall(fenced=False), END, bare_starts=(CALL,))
