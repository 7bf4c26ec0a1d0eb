"""A list of Python calls with keywords and literals, nothing of which is ever evaluated."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing import (
    NAME,
    CallFormat,
    CallValues,
    Function,
    NotACall,
    Opener,
    Place,
    Reading,
    Scanner,
    Schema,
    ToolChoice,
    in_turn,
    json_object,
    kinds,
    literal_json,
    named,
    read_balanced,
    read_json,
    separated_parameters,
    values,
)

_QUOTES = ('"""', "'''", '"', "'")
_KEY = re.compile(f"{NAME.pattern[:-1]}+")
_WORD = re.compile(r"[\w.+-]*")


@dataclass(frozen=True)
class PythonCalls(CallFormat):
    """`[NAME(KEY=LITERAL, …), …]` between an opener and an optional closer; the brackets may be missing."""

    opener: str
    closer: str

    @property
    def openers(self) -> tuple[Opener, ...]:
        return (Opener(self.opener),)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (self.closer,)

    def read(self, s: Scanner) -> Reading[None]:
        yield from s.space()
        listed = yield from s.optional("[")
        separator = ","
        while separator == ",":
            yield from s.space()
            call = yield from _read_call(s)
            yield from s.space()
            separator = (yield from s.optional(",", "]")) if listed else ""
            if isinstance(call, str):
                s.json_call(call)
            else:
                s.call(*call)
        yield from s.space()
        yield from s.optional(self.closer)

    def grammar(self, functions: Sequence[Function], choice: ToolChoice) -> Grammar:
        calls = [
            chain(f"{named(function, _KEY)}(", separated_parameters(function.parameters, "=", _KEY, _value, ", "), ")")
            for function in functions
        ]
        return chain(f"{self.opener}[", in_turn(one_of(*calls), choice, ", "), f"]{self.closer}")

    def write(self, calls: Sequence[CallValues]) -> str:
        listed = (
            f"{name}({', '.join(f'{key}={_literal(value)}' for key, value in arguments.items())})"
            for name, arguments in calls
        )
        return f"{self.opener}[{', '.join(listed)}]{self.closer}"


def _read_call(s: Scanner) -> Reading[tuple[str, str] | str]:
    """Read a name and its arguments, or a call as JSON, which the models write if the prompt asks for it."""
    if (yield from s.lookahead("{")):
        return (yield from read_json(s))
    name = yield from s.name()
    schema = s.schema(name)
    yield from s.expect("(")
    arguments: dict[str, str] = {}
    separator = ","
    while separator == ",":
        yield from s.space()
        if (yield from s.optional(")")):
            break
        key = yield from s.name()
        yield from s.space()
        yield from s.expect("=")
        yield from s.space()
        arguments[key] = _typed((yield from _read_value(s)), schema.member(key))
        yield from s.space()
        separator = yield from s.expect(",", ")")
    return name, json_object(arguments)


def _read_value(s: Scanner) -> Reading[str]:
    mark = s.mark()
    start = yield from s.lookahead(*_QUOTES, "[", "{", "(")
    if start in _QUOTES:
        yield from s.expect(start)
        while (yield from s.until(start, "\\"))[1] != start:
            if not (yield from s.peek()):
                raise NotACall
            s.take(s.at + 1)
    elif start:
        yield from read_balanced(s)
    else:
        yield from s.run(_WORD)
    return s.since(mark)


def _typed(text: str, schema: Schema) -> str:
    """Return a literal as JSON; the schema types a word that is no literal, such as 007."""
    written = literal_json(text)
    if written is None and text.startswith(_QUOTES):
        # A line break in a string of one line, which Python does not allow.
        written = literal_json(text.replace("\r", "\\r").replace("\n", "\\n"))
    if written is None and _WORD.fullmatch(text) and text:
        written = schema.json(text)
    if written is None:
        raise NotACall
    return written


def _value(place: Place) -> Grammar:
    """State literals as Python writes them, except true, false and null within lists and dictionaries."""
    texts, others = kinds(place)
    return one_of(*(part.json() for part in texts), *(_other(part) for part in others))


def _other(part: Place) -> Grammar:
    if (listed := values(part)) is not None:
        return one_of(*map(repr, listed))
    if part.types() == {"null"}:
        return chain("None")
    return one_of("True", "False") if part.types() == {"boolean"} else part.json()


def _literal(value: object) -> str:
    return repr(value) if value is None or isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
