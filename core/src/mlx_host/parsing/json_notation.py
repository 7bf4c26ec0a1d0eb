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
from mlx_host.parsing.json_scanner import read_json
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import ScanGenerator, Scanner
from mlx_host.parsing.schema_nodes import ToolFunction

# Models that miscount braces write too many, not too few.
_SPACE_OR_BRACES = re.compile(r"[\s}]*")


@dataclass(frozen=True)
class JsonCall(Notation):
    """A JSON object with `name` and `arguments`; the field `arguments` is that member's key as the models write it.

    Arrays of such objects are parsed, too. A call is emitted once its object is complete, even without a closer.
    `id_key` is the key of the call's id; an id that does not match `id_pattern` is dropped.
    """

    arguments: str = "arguments"
    id_key: str = ""
    id_pattern: re.Pattern[str] | None = None

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        yield from s.space()
        if not (yield from s.optional("[")):
            raw = yield from read_json(s, first="{")
            if closers:
                yield from s.take_while(_SPACE_OR_BRACES)
                yield from s.optional(*closers)
            self._emit(s, raw)
            return
        separator = ","
        while separator == ",":
            raw = yield from read_json(s, first="{")
            yield from s.space()
            separator = yield from s.optional(",", "]")
            self._emit(s, raw)
        if closers:
            yield from s.space()
            yield from s.optional(*closers)

    def _emit(self, s: Scanner, raw: str) -> None:
        s.emit_json_call(raw, id_key=self.id_key, id_pattern=self.id_pattern)

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
