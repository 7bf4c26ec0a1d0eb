"""Calls as JSON objects: `{"name": …, "arguments": {…}}`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing.call_format import CallFormat, CallValues, Notation, Opener
from mlx_host.parsing.call_grammars import in_turn
from mlx_host.parsing.json_scanner import read_json
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import Reading, Scanner
from mlx_host.parsing.schema_nodes import Function

# Models that lose count of their braces write too many, not too few.
_SPACE_OR_BRACES = re.compile(r"[\s}]*")


@dataclass(frozen=True)
class JsonCall(Notation):
    """A JSON object with `name` and `arguments`, which is the name of that member as the models write it.

    An array of such objects is read, too. Each call counts as soon as its object is complete, with or without a closer.
    `id_key` names the member that holds the call's id; an id that does not match `id_pattern` is dropped.
    """

    arguments: str = "arguments"
    id_key: str = ""
    id_pattern: re.Pattern[str] | None = None

    def read(self, s: Scanner, *closers: str) -> Reading[None]:
        yield from s.space()
        if not (yield from s.optional("[")):
            raw = yield from read_json(s, first="{")
            if closers:
                yield from s.run(_SPACE_OR_BRACES)
                yield from s.optional(*closers)
            self._decide(s, raw)
            return
        separator = ","
        while separator == ",":
            raw = yield from read_json(s, first="{")
            yield from s.space()
            separator = yield from s.optional(",", "]")
            self._decide(s, raw)
        if closers:
            yield from s.space()
            yield from s.optional(*closers)

    def _decide(self, s: Scanner, raw: str) -> None:
        s.json_call(raw, id_key=self.id_key, id_pattern=self.id_pattern)

    def grammar(self, function: Function, choice: ToolChoice) -> Grammar:
        return chain(self.members(function), "}")

    def members(self, function: Function) -> Grammar:
        """State the object up to its closing brace, for families that add a member such as an id.

        It is cut where a JSON lexer cuts it: other JSON may be an alternative, and the lexer takes the longest match.
        """
        name = json.dumps(function.name, ensure_ascii=False)
        return chain("{", '"name"', ": ", name, ", ", f'"{self.arguments}"', ": ", function.json())

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return json.dumps({"name": name, self.arguments: arguments}, ensure_ascii=False)


@dataclass(frozen=True)
class JsonArrayCalls(CallFormat):
    """Calls in one JSON array after `opener`, and `closer` if the models write one; a single object is read, too.

    With `bracket` the opener counts only directly before the array's bracket, for openers that are ordinary words.
    """

    opener: str
    closer: str = ""
    notation: JsonCall = JsonCall()
    bracket: bool = False

    @property
    def openers(self) -> tuple[Opener, ...]:
        return (Opener(self.opener + "[", inclusive=True) if self.bracket else Opener(self.opener),)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (self.closer,) if self.closer else ()

    def read(self, s: Scanner) -> Reading[None]:
        if self.bracket:
            yield from s.expect(self.opener)
        yield from self.notation.read(s, *self.syntax)

    def grammar(self, functions: Sequence[Function], choice: ToolChoice) -> Grammar:
        call = one_of(*(self.notation.grammar(function, choice) for function in functions))
        return chain(self.opener + "[", in_turn(call, choice, ", "), "]" + self.closer)

    def write(self, calls: Sequence[CallValues]) -> str:
        return f"{self.opener}[{', '.join(self.notation.write(*call) for call in calls)}]{self.closer}"
