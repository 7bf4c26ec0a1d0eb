"""A list of Python calls with literal keyword arguments; no code is executed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing.arguments import json_object
from mlx_host.parsing.call_format import CallFormat, CallStart, CallValues
from mlx_host.parsing.call_grammars import check_function_name, one_or_more, separated_parameters, split_by_type
from mlx_host.parsing.damaged_json import read_call_object
from mlx_host.parsing.json_scanner import read_balanced
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import NAME, CallSyntaxError, ScanGenerator, Scanner
from mlx_host.parsing.schema import Schema, literal_json
from mlx_host.parsing.schema_nodes import SchemaNode, ToolFunction, enum_values

_QUOTES = ('"""', "'''", '"', "'")
_KEY = re.compile(f"{NAME.pattern[:-1]}+")
_WORD = re.compile(r"[\w.+-]*")


@dataclass(frozen=True)
class PythonCalls(CallFormat):
    """`[NAME(KEY=LITERAL, …), …]` between an opener and an optional closer; the brackets may be missing.

    Without an opener, calls are a list at the start of the output or of a line, and their functions must be tools.
    """

    opener: str = ""
    closer: str = ""

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        if self.opener:
            return (CallStart(self.opener),)
        return CallStart("[", inclusive=True, leading=True), CallStart("\n[", inclusive=True)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (self.closer,) if self.closer else ()

    @property
    def lookalikes(self) -> tuple[str, ...]:
        return () if self.opener else (rf"(?:(?s:.*)\n)?\s*\[\s*{NAME.pattern[:-1]}+\((?s:.*)",)

    def read(self, s: Scanner) -> ScanGenerator[None]:
        yield from s.space()
        listed = yield from s.optional("[")
        separator = ","
        while separator == ",":
            yield from s.space()
            call = yield from _read_call(s, only_tools=not self.opener)
            yield from s.space()
            separator = (yield from s.optional(",", "]")) if listed else ""
            if isinstance(call, str):
                s.emit_json_call(call)
            else:
                s.emit_call(*call)
        if self.closer:
            yield from s.space()
            yield from s.optional(self.closer)

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        calls = [
            chain(
                f"{check_function_name(function, _KEY)}(",
                separated_parameters(function.parameters, "=", _KEY, _value, ", "),
                ")",
            )
            for function in functions
        ]
        return chain(f"{self.opener}[", one_or_more(one_of(*calls), choice, ", "), f"]{self.closer}")

    def write(self, calls: Sequence[CallValues]) -> str:
        listed = (
            f"{name}({', '.join(f'{key}={_literal(value)}' for key, value in arguments.items())})"
            for name, arguments in calls
        )
        return f"{self.opener}[{', '.join(listed)}]{self.closer}"


def _read_call(s: Scanner, *, only_tools: bool) -> ScanGenerator[tuple[str, str] | str]:
    """Parse a name and its arguments, or a JSON call, which the models write if the prompt asks for it."""
    if not only_tools and (yield from s.lookahead("{")):
        return (yield from read_call_object(s, in_array=True))
    name = yield from s.name()
    if only_tools and name not in s.tools:
        raise CallSyntaxError
    schema = s.schema(name)
    yield from s.expect("(")
    s.stream.begin(name)
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
        arguments[key] = _typed((yield from _read_value(s, key)), schema.member(key))
        s.stream.member(key, arguments[key])
        yield from s.space()
        separator = yield from s.expect(",", ")")
    return name, json_object(arguments)


def _read_value(s: Scanner, key: str) -> ScanGenerator[str]:
    mark = s.mark()
    start = yield from s.lookahead(*_QUOTES, "[", "{", "(")
    if start == '"':
        s.stream.json_string(key)
        s.stream.resume()
    if start in _QUOTES:
        yield from s.expect(start)
        while (yield from s.until(start, "\\"))[1] != start:
            if not (yield from s.peek()):
                raise CallSyntaxError
            s.take(s.pos + 1)
        s.stream.pause()
    elif start:
        yield from read_balanced(s)
    else:
        yield from s.take_while(_WORD)
    return s.since(mark)


def _typed(text: str, schema: Schema) -> str:
    """Return a literal as JSON; words that are not literals, such as 007, are typed by the schema."""
    written = literal_json(text)
    if written is None and text.startswith(_QUOTES):
        # A line break in a single-quoted string, which Python does not allow.
        written = literal_json(text.replace("\r", "\\r").replace("\n", "\\n"))
    if written is None and _WORD.fullmatch(text) and text:
        written = schema.json(text)
    if written is None:
        raise CallSyntaxError
    return written


def _value(node: SchemaNode) -> Grammar:
    """Return a grammar of Python literals; lists and dictionaries contain JSON's true, false and null."""
    texts, others = split_by_type(node)
    return one_of(*(part.json() for part in texts), *(_other(part) for part in others))


def _other(part: SchemaNode) -> Grammar:
    if (listed := enum_values(part)) is not None:
        return one_of(*map(repr, listed))
    if part.types() == {"null"}:
        return chain("None")
    return one_of("True", "False") if part.types() == {"boolean"} else part.json()


def _literal(value: object) -> str:
    return repr(value) if value is None or isinstance(value, bool) else json.dumps(value, ensure_ascii=False)
