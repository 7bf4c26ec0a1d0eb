"""DeepSeek's calls as JSON between special tokens, as V3 and V3.1 write them.

V3 writes a fence and the word `function`, V3.1 neither. Checkpoints are served with each other's template, so both
spellings are always read. The parser of V3.1 uses this module, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, chain
from mlx_host.parsing import NAME, CallBlock, Function, Notation, Reading, Scanner, ToolChoice, named, read_json

BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEPARATOR, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"

_NAMES = re.compile(f"{NAME.pattern[:-1]}+")
_SPACE_OR_FENCE = re.compile(r"[\s`]*")


@dataclass(frozen=True)
class DeepSeekCall(Notation):
    """One call; `fenced` as V3 writes it."""

    fenced: bool

    @property
    def begins(self) -> tuple[str, ...]:
        return (CALL,)

    def read(self, s: Scanner, *closers: str) -> Reading[None]:
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
            arguments = yield from read_json(s, first="{")
            yield from s.run(_SPACE_OR_FENCE)
        yield from s.optional(CALL_END)
        s.call(name, arguments)

    def grammar(self, function: Function, choice: ToolChoice) -> Grammar:
        head, tail = self._around(named(function, _NAMES))
        return chain(head, function.json(), tail)

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        head, tail = self._around(name)
        return head + json.dumps(arguments, ensure_ascii=False) + tail

    def _around(self, name: str) -> tuple[str, str]:
        if self.fenced:
            return f"{CALL}function{SEPARATOR}{name}\n```json\n", f"\n```{CALL_END}"
        return f"{CALL}{name}{SEPARATOR}", CALL_END


V3_CALLS = CallBlock(BEGIN, DeepSeekCall(fenced=True), END, between="\n", bare=(CALL,))
V31_CALLS = CallBlock(BEGIN, DeepSeekCall(fenced=False), END, bare=(CALL,))
