"""Calls as JSON objects: `{"name": …, "arguments": {…}}`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing.call_format import CallFormat, CallStart, CallValues, Notation
from mlx_host.parsing.call_grammars import one_or_more
from mlx_host.parsing.damaged_json import open_fence, read_call_object
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import ScanGenerator, Scanner
from mlx_host.parsing.schema_nodes import ToolFunction

# Models that miscount braces write too many, not too few.
_SPACE_OR_BRACES = re.compile(r"[\s}]*")
_SPACE_BRACES_OR_FENCE = re.compile(r"[\s}`]*")


@dataclass(frozen=True)
class JsonCall(Notation):
    """A JSON object with `name` and `arguments`; the field `arguments` is that member's key as the models write it.

    Arrays of such objects, several objects in a row and objects in a Markdown fence are parsed, too. A call is emitted
    once its object is complete, even without a closer.
    `id_key` is the key of the call's id; an id that does not match `id_pattern` is dropped.
    """

    arguments: str = "arguments"
    id_key: str = ""
    id_pattern: re.Pattern[str] | None = None

    @property
    def starts(self) -> tuple[str, ...]:
        return "{", "[", "```"

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        fenced = yield from open_fence(s)
        after = _SPACE_BRACES_OR_FENCE if fenced else _SPACE_OR_BRACES
        if (yield from s.optional("[")):
            yield from self._read_array(s, after if closers or fenced else None, *closers)
            return
        while True:
            raw = yield from read_call_object(s, *closers)
            found = ""
            if closers or fenced:
                yield from s.take_while(after)
                found = (yield from s.optional(*closers)) if closers else ""
            self._emit(s, raw)
            if found or not (yield from self._another(s)):
                return

    def _read_array(self, s: Scanner, after: re.Pattern[str] | None, *closers: str) -> ScanGenerator[None]:
        separator = ","
        while separator == ",":
            yield from s.space()
            raw = yield from read_call_object(s, *closers, in_array=True)
            yield from s.space()
            separator = yield from s.optional(",", "]")
            if separator != "," and after is not None:
                yield from s.take_while(after)
            self._emit(s, raw)
        if closers:
            yield from s.optional(*closers)

    def _emit(self, s: Scanner, raw: str) -> None:
        s.emit_json_call(raw, id_key=self.id_key, id_pattern=self.id_pattern)

    def _another(self, s: Scanner) -> ScanGenerator[bool]:
        """Return whether another object follows, and consume the whitespace and the comma before it."""
        mark = s.mark()
        yield from s.space()
        if (yield from s.optional(",")):
            yield from s.space()
        if (yield from s.lookahead("{")):
            return True
        s.rewind(mark)
        return False

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        return chain(self.open_object(function), "}")

    def open_object(self, function: ToolFunction) -> Grammar:
        """Return the grammar of the object up to its closing brace, for families that add a member such as an id.

        It is split at JSON's token boundaries, since a JSON schema may be an alternative and the longest match wins.
        """
        name = json.dumps(function.name, ensure_ascii=False)
        return chain("{", '"name"', ": ", name, ", ", f'"{self.arguments}"', ": ", function.json())

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return json.dumps({"name": name, self.arguments: arguments}, ensure_ascii=False)


@dataclass(frozen=True)
class JsonArrayCalls(CallFormat):
    """A JSON array of calls after `opener`, followed by `closer` if there is one. Single objects are parsed, too.

    With `bracket` the opener must be directly followed by the array's bracket, for openers that are ordinary words.
    """

    opener: str
    closer: str = ""
    notation: JsonCall = JsonCall()
    bracket: bool = False

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return (CallStart(self.opener + "[", inclusive=True) if self.bracket else CallStart(self.opener),)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (self.closer,) if self.closer else ()

    def read(self, s: Scanner) -> ScanGenerator[None]:
        if self.bracket:
            yield from s.expect(self.opener)
        yield from self.notation.read(s, *self.syntax)

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        call = one_of(*(self.notation.grammar(function, choice) for function in functions))
        return chain(self.opener + "[", one_or_more(call, choice, ", "), "]" + self.closer)

    def write(self, calls: Sequence[CallValues]) -> str:
        return f"{self.opener}[{', '.join(self.notation.write(*call) for call in calls)}]{self.closer}"
