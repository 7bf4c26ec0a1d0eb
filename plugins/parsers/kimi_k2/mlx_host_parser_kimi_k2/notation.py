"""Kimi K2's notation of a call: an id that contains the name, and the arguments as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlx_host.grammar import Grammar, Pattern, chain
from mlx_host.parsing import (
    Notation,
    ReadFunction,
    ScanGenerator,
    Scanner,
    ToolChoice,
    ToolFunction,
    check_function_name,
    read_json,
)

BEGIN, ARGUMENT, END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"

_IN_ID = re.compile(r"[^<{]*")
_NAME = re.compile(r"[^\s<{]+")
_NUMBER = Pattern("0|[1-9][0-9]{0,3}")
_ID = re.compile(r"(?:functions\.)?(\S+?)(:[0-9]+)?")
_SPACE_OR_BRACES = re.compile(r"[\s}]*")


@dataclass(frozen=True)
class KimiCall(Notation):
    """One call with the id `functions.NAME:NUMBER`."""

    @property
    def starts(self) -> tuple[str, ...]:
        return (BEGIN,)

    def block_reader(self) -> ReadFunction:
        return partial(self._read, ids=set())

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        return self._read(s, set())

    def _read(self, s: Scanner, ids: set[str]) -> ScanGenerator[None]:
        """Parse a call; `ids` are those of the previous calls in the same block."""
        yield from s.expect(BEGIN)
        id = (yield from s.take_while(_IN_ID)).strip()
        yield from s.optional(ARGUMENT)
        yield from s.space()
        empty = bool((yield from s.lookahead(END)))
        arguments = "" if empty else (yield from read_json(s, first='{"'))
        yield from s.take_while(_SPACE_OR_BRACES)
        yield from s.optional(END)
        match = _ID.fullmatch(id)
        # An id without a number, or one that another call has, does not identify this call.
        known = match is not None and match[2] is not None and id not in ids
        ids.add(id)
        s.emit_call(match[1] if match else "", arguments, id if known else None)

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        return chain(
            f"{BEGIN}functions.{check_function_name(function, _NAME)}:", _NUMBER, ARGUMENT, function.json(), END
        )

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return f"{BEGIN}functions.{name}:{number}{ARGUMENT}{json.dumps(arguments, ensure_ascii=False)}{END}"
