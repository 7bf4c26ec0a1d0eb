"""Mistral's calls after `[TOOL_CALLS]`, in the notation of any tokenizer version.

    calls      = named , { named } | array ;
    named      = "[TOOL_CALLS]" , NAME , [ "[CALL_ID]" , id ] , "[ARGS]" , JSON object ; (* CALL_ID: version 11 *)
    array      = "[TOOL_CALLS]" , " [" , object , { ", " , object } , "]" ;                 (* versions 3 and 7 *)
    object     = '{"name": ' , name , ', "arguments": ' , JSON object , [ ', "id": "' , id , '"' ] , "}" ;
    id         = 9 * ( letter | digit ) ;

The chat templates accept no other ids. `[ARGS]` and the brackets of the array may be missing.
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
    CallStart,
    CallValues,
    JsonCall,
    ScanGenerator,
    Scanner,
    ToolChoice,
    ToolFunction,
    check_function_name,
    one_or_more,
    read_arguments,
)

_TOOL_CALLS = "[TOOL_CALLS]"
_ID = re.compile(r"[a-zA-Z0-9]{9}")
_NAME_OR_EMPTY = re.compile(r"[^\s\[{]*")
_NAME = re.compile(r"[^\s\[{]+")
_WITH_ID = chain("[CALL_ID]", Pattern(_ID.pattern))
_ID_MEMBER = chain(', "id": "', Pattern(_ID.pattern), '"')
_OBJECT = JsonCall(id_key="id", id_pattern=_ID)


class MistralCalls(CallFormat):
    """Calls after `[TOOL_CALLS]`; the notations of all versions are parsed."""

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return (CallStart(_TOOL_CALLS),)

    def read(self, s: Scanner) -> ScanGenerator[None]:
        yield from s.space()
        yield from (_OBJECT.read(s) if (yield from s.lookahead(*_OBJECT.starts)) else _read_named(s))

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        return self._calls(one_of(*map(self._call, functions)), choice)

    @abstractmethod
    def _call(self, function: ToolFunction) -> Grammar: ...

    @abstractmethod
    def _calls(self, call: Grammar, choice: ToolChoice) -> Grammar: ...


@dataclass(frozen=True)
class NamedCalls(MistralCalls):
    """Calls of version 11 and later."""

    def _call(self, function: ToolFunction) -> Grammar:
        return chain(check_function_name(function, _NAME), one_of("", _WITH_ID), "[ARGS]", function.json())

    def _calls(self, call: Grammar, choice: ToolChoice) -> Grammar:
        return one_or_more(chain(_TOOL_CALLS, call), choice)

    def write(self, calls: Sequence[CallValues]) -> str:
        return "".join(f"{_TOOL_CALLS}{name}[ARGS]{json.dumps(args, ensure_ascii=False)}" for name, args in calls)


@dataclass(frozen=True)
class ArrayCalls(MistralCalls):
    """Calls of versions 3 and 7."""

    def _call(self, function: ToolFunction) -> Grammar:
        return chain(_OBJECT.open_object(function), optional(_ID_MEMBER), "}")

    def _calls(self, call: Grammar, choice: ToolChoice) -> Grammar:
        return chain(f"{_TOOL_CALLS} [", one_or_more(call, choice, ", "), "]")

    def write(self, calls: Sequence[CallValues]) -> str:
        objects = [
            {"name": name, "arguments": arguments, "id": f"a1B2c3D4{n}"} for n, (name, arguments) in enumerate(calls)
        ]
        return f"{_TOOL_CALLS} {json.dumps(objects, ensure_ascii=False)}"


def _read_named(s: Scanner) -> ScanGenerator[None]:
    name = yield from s.take_while(_NAME_OR_EMPTY)
    yield from s.space()
    id = ""
    if (yield from s.optional("[CALL_ID]")):
        id = (yield from s.take_while(_NAME_OR_EMPTY)).strip()
    # Some detokenizers drop this token.
    yield from s.optional("[ARGS]")
    known = id if _ID.fullmatch(id) else None
    arguments = yield from read_arguments(s, name, _TOOL_CALLS, id=known)
    s.emit_call(name, arguments, known)
