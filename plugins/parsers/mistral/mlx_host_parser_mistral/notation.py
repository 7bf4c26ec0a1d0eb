"""Mistral's calls in `[TOOL_CALLS]`, in the notation of any tokenizer version.

Version 13 and later write `[TOOL_CALLS]NAME[ARGS]{…}` for each call, 11 puts `[CALL_ID]ID` between, 3 and 7 write one
array of objects. A call's id has nine letters and digits; the chat templates accept no other.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host.grammar import Grammar, Pattern, chain, one_of, optional
from mlx_host.parsing import (
    CallFormat,
    CallValues,
    Function,
    JsonCall,
    Opener,
    Reading,
    Scanner,
    ToolChoice,
    in_turn,
    named,
    read_json,
)

_TOOL_CALLS = "[TOOL_CALLS]"
_ID = re.compile(r"[a-zA-Z0-9]{9}")
_NAME_ENDS = re.compile(r"[^\s\[{]*")
_NAME = re.compile(r"[^\s\[{]+")
_WITH_ID = chain("[CALL_ID]", Pattern(_ID.pattern))
_ID_MEMBER = chain(', "id": "', Pattern(_ID.pattern), '"')
_OBJECT = JsonCall(id_key="id", id_pattern=_ID)


class MistralCalls(CallFormat):
    """Calls after `[TOOL_CALLS]`; those of every version are read."""

    @property
    def openers(self) -> tuple[Opener, ...]:
        return (Opener(_TOOL_CALLS),)

    def read(self, s: Scanner) -> Reading[None]:
        yield from s.space()
        yield from (_OBJECT.read(s) if (yield from s.lookahead("[", "{")) else _read_named(s))

    def grammar(self, functions: Sequence[Function], choice: ToolChoice) -> Grammar:
        return self._several(one_of(*map(self._call, functions)), choice)

    @abstractmethod
    def _call(self, function: Function) -> Grammar: ...

    @abstractmethod
    def _several(self, call: Grammar, choice: ToolChoice) -> Grammar: ...


@dataclass(frozen=True)
class NamedCalls(MistralCalls):
    """Calls of version 11 and later."""

    def _call(self, function: Function) -> Grammar:
        return chain(named(function, _NAME), one_of("", _WITH_ID), "[ARGS]", function.json())

    def _several(self, call: Grammar, choice: ToolChoice) -> Grammar:
        return in_turn(chain(_TOOL_CALLS, call), choice)

    def write(self, calls: Sequence[CallValues]) -> str:
        return "".join(f"{_TOOL_CALLS}{name}[ARGS]{json.dumps(args, ensure_ascii=False)}" for name, args in calls)


@dataclass(frozen=True)
class ArrayCalls(MistralCalls):
    """Calls of versions 3 and 7."""

    def _call(self, function: Function) -> Grammar:
        return chain(_OBJECT.members(function), optional(_ID_MEMBER), "}")

    def _several(self, call: Grammar, choice: ToolChoice) -> Grammar:
        return chain(f"{_TOOL_CALLS} [", in_turn(call, choice, ", "), "]")

    def write(self, calls: Sequence[CallValues]) -> str:
        objects = [
            {"name": name, "arguments": arguments, "id": f"a1B2c3D4{n}"} for n, (name, arguments) in enumerate(calls)
        ]
        return f"{_TOOL_CALLS} {json.dumps(objects, ensure_ascii=False)}"


def _read_named(s: Scanner) -> Reading[None]:
    name = yield from s.run(_NAME_ENDS)
    yield from s.space()
    id = ""
    if (yield from s.optional("[CALL_ID]")):
        id = (yield from s.run(_NAME_ENDS)).strip()
    # Some detokenizers drop this token.
    yield from s.optional("[ARGS]")
    arguments = yield from read_json(s, first='{"')
    s.call(name, arguments, id if _ID.fullmatch(id) else None)
