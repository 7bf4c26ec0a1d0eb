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
    Tools,
    check_function_name,
    read_arguments,
)

BEGIN, ARGUMENT, END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"

SECTION_ENDS = ("<|tool_calls_section_end|>", "<|tool_call_section_end|>")

_IN_ID = re.compile(r"[^<{]*")
_NAME = re.compile(r"[^\s<{]+")
_NUMBER = Pattern("0|[1-9][0-9]{0,3}")
_ID = re.compile(r"(?:functions\.)?(\S+?)(:[0-9]+)?")
_SPACE_OR_BRACES = re.compile(r"[\s}]*")
# An id in which punctuation is missing: functionsNAME5, functions.NAME5.
_PREFIX = re.compile(r"functions?[.:_]?")
_SUFFIX = re.compile(r"[.:_]?[0-9]*")


@dataclass(frozen=True)
class KimiCall(Notation):
    """One call with the id `functions.NAME:NUMBER`."""

    @property
    def starts(self) -> tuple[str, ...]:
        return (BEGIN,)

    def block_reader(self) -> ReadFunction:
        return partial(self._read, set())

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        return self._read(set(), s)

    def _read(self, ids: set[str], s: Scanner, *closers: str) -> ScanGenerator[None]:
        """Parse a call; `ids` are those of the previous calls in the same block."""
        yield from s.expect(BEGIN)
        id = (yield from s.take_while(_IN_ID)).strip()
        yield from s.optional(ARGUMENT)
        yield from s.space()
        empty = bool((yield from s.lookahead(END)))
        match = _ID.fullmatch(id)
        name = _function(id, match[1] if match else "", s.tools)
        # An id without a number, or one that another call has, does not identify this call.
        known = id if match is not None and match[2] is not None and id not in ids else None
        ids.add(id)
        arguments = "" if empty else (yield from read_arguments(s, name, END, BEGIN, *SECTION_ENDS, id=known))
        yield from s.take_while(_SPACE_OR_BRACES)
        yield from s.optional(END)
        s.emit_call(name, arguments, known)

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        return chain(
            f"{BEGIN}functions.{check_function_name(function, _NAME)}:", _NUMBER, ARGUMENT, function.json(), END
        )

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return f"{BEGIN}functions.{name}:{number}{ARGUMENT}{json.dumps(arguments, ensure_ascii=False)}{END}"


def _function(id: str, name: str, tools: Tools) -> str:
    """Return the tool that an id names if it is not `name`: exactly one whose name the id contains."""
    if name in tools:
        return name
    folded = id.casefold()
    prefix = _PREFIX.match(folded)
    bare = folded[prefix.end() :] if prefix else folded
    named = [
        tool
        for tool in tools.names()
        if bare.startswith(tool.casefold()) and _SUFFIX.fullmatch(bare[len(tool.casefold()) :])
    ]
    return named[0] if len(named) == 1 else name
