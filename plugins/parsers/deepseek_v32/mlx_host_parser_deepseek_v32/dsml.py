"""DSML, the markup of calls in DeepSeek-V3.2 and V4.

A block of calls is an element `function_calls` that contains `invoke` elements. In V4 the block is named `tool_calls`,
in V4.1 `calls`, with a space before each tag name. Models confuse these, misspell the block's tag, omit it in long
contexts, and write ASCII bars instead of full-width ones. The reader accepts any text with a complete `invoke` element.
The parser of V4 also uses this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing import (
    CallFormat,
    CallStart,
    CallSyntaxError,
    CallValues,
    ScanGenerator,
    Scanner,
    Schema,
    SchemaNode,
    ToolChoice,
    ToolFunction,
    UnquotedValue,
    ValueTags,
    at_natural_end,
    check_function_name,
    json_object,
    normalize_arguments,
    one_or_more,
    parameters,
    read_arguments,
    read_value,
    split_by_type,
)

BLOCKS = ("function_calls", "tool_calls", "calls")

_KEY = re.compile(r'[^\s<>"]+')
_IN_ATTRIBUTE = {'"': re.compile(r'[^"\n]*'), "'": re.compile(r"[^'\n]*")}
_IN_TAG = re.compile(r"[^<>\n]*")
_STRING, _OTHER = 'string="true"', 'string="false"'
_KINDS = (_STRING, _OTHER)
_WRAPPERS = ("arguments", "input")
_BLOCK_NAME = re.compile(r"[ \w]*")


class _Tags:
    """The tags of one spelling of DSML, with and without a space before the tag names."""

    def __init__(self, mark: str) -> None:
        self.any = f"<{mark}"
        self.invoke = tuple(f"<{mark}{gap}invoke" for gap in ("", " "))
        self.parameter = tuple(f"<{mark}{gap}parameter" for gap in ("", " "))
        # The models sometimes omit the mark of closing tags.
        marks = (mark, f"{mark} ", "")
        self.marked_end_parameter = tuple(f"</{each}parameter>" for each in marks[:2])
        self.end_parameter = tuple(f"</{each}parameter>" for each in marks)
        self.end_invoke = tuple(f"</{each}invoke>" for each in marks)
        self.end_block = tuple(f"</{each}{block}>" for block in BLOCKS for each in marks)
        self.closers = self.end_parameter + self.end_invoke + self.end_block


_SPELLINGS = {tags.any: tags for tags in (_Tags("｜DSML｜"), _Tags("|DSML|"))}


@dataclass(frozen=True)
class DsmlCalls(CallFormat):
    """Calls in an element named `block`; the models write `gap` before tag names and `newline` after tags."""

    block: str
    gap: str = ""
    newline: str = "\n"

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return tuple(CallStart(text, inclusive=True) for text in _SPELLINGS)

    @property
    def syntax(self) -> tuple[str, ...]:
        return tuple(closer for tags in _SPELLINGS.values() for closer in tags.closers)

    def read(self, s: Scanner) -> ScanGenerator[None]:
        tags = _SPELLINGS[(yield from s.lookahead(*_SPELLINGS))]
        while not (yield from s.lookahead(*tags.invoke)):
            yield from s.expect(tags.any)
            yield from s.take_while(_BLOCK_NAME)
            yield from s.expect(">")
            yield from s.space()
        while (yield from s.lookahead(*tags.invoke)):
            yield from _read_invoke(s, tags)
            yield from s.space()
        # Stray closing tags may follow the last one.
        while (yield from s.optional(*tags.closers, *("\n" + closer for closer in tags.closers))):
            pass

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        invokes = one_of(*map(self._invoke, functions))
        opener, closer = self._element(self.block)
        return chain(opener + self.newline, one_or_more(invokes, choice), closer)

    def _element(self, name: str, attributes: str = "") -> tuple[str, str]:
        return f"<｜DSML｜{self.gap}{name}{attributes}>", f"</｜DSML｜{self.gap}{name}>"

    def _invoke(self, function: ToolFunction) -> Grammar:
        before = f'<｜DSML｜{self.gap}parameter name="'
        # A single parameter with one of these names would be parsed as a wrapper of all arguments.
        arguments = parameters(function, before, '" string=', _KEY, self._value, reserved=_WRAPPERS)
        opener, closer = self._element("invoke", f' name="{check_function_name(function, _KEY)}"')
        return chain(opener + self.newline, arguments, closer + self.newline)

    def _value(self, node: SchemaNode) -> Grammar:
        """Return the grammar of the text after `string=`."""
        [tags, _] = _SPELLINGS.values()
        _, closer = self._element("parameter")
        text = UnquotedValue(closer, variants=tags.marked_end_parameter)
        texts, others = split_by_type(node)
        strings = [chain('"true">', text.strings(part), self.newline) for part in texts]
        return one_of(*strings, *(chain('"false">', part.json(), closer, self.newline) for part in others))

    def write(self, calls: Sequence[CallValues]) -> str:
        opener, closer = self._element(self.block)
        return f"{opener}{self.newline}{''.join(self.write_invoke(*call) for call in calls)}{closer}"

    def write_invoke(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Write one call without the block around it."""
        opener, closer = self._element("invoke", f' name="{name}"')
        return f"{opener}{self.newline}{''.join(map(self._parameter, arguments.items()))}{closer}{self.newline}"

    def _parameter(self, argument: tuple[str, object]) -> str:
        key, value = argument
        kind, text = ("true", value) if isinstance(value, str) else ("false", json.dumps(value, ensure_ascii=False))
        opener, closer = self._element("parameter", f' name="{key}" string="{kind}"')
        return f"{opener}{text}{closer}{self.newline}"


def _read_invoke(s: Scanner, tags: _Tags) -> ScanGenerator[None]:
    yield from s.expect(*tags.invoke)
    name, rest = yield from _read_attributes(s)
    schema = s.schema(name)
    if rest == "/":
        s.emit_call(name, "")
        return
    yield from s.space()
    ends = tags.end_invoke + tags.end_block
    if (yield from s.lookahead("{", "```")):
        raw = yield from read_arguments(s, name, *ends)
        yield from s.space()
        yield from s.expect(*ends)
        s.emit_call(name, raw)
        return
    s.stream.begin(name)
    arguments: dict[str, str] = {}
    around = ValueTags(tags.end_parameter, tags.parameter, tags.end_invoke, tags.end_block, glued=True)
    key = ""

    def is_argument(opener: str) -> ScanGenerator[bool]:
        try:
            other, _ = yield from _read_attributes(s)
        except CallSyntaxError:
            return False
        return other != key and other not in arguments and other in schema.members()

    while (yield from s.lookahead(*tags.parameter)):
        yield from s.expect(*tags.parameter)
        key, kind = yield from _read_attributes(s)
        member = schema.member(key)
        # A wrapper of all arguments is not an argument.
        is_wrapper = key in _WRAPPERS and key not in schema.members()
        if kind == _STRING and not is_wrapper and member.may_be_string():
            s.stream.text(key)
        value = yield from read_value(s, around, is_argument, json="" if kind == _STRING else '{["')
        arguments[key] = member.tagged_json(value, is_string=kind == _STRING) if kind in _KINDS else member.json(value)
        if not is_wrapper:
            s.stream.member(key, arguments[key])
        yield from s.space()
    if not (yield from s.optional(*ends)) and not (arguments and (yield from at_natural_end(s))):
        raise CallSyntaxError
    s.emit_call(name, _unwrapped(arguments, schema))


def _read_attributes(s: Scanner) -> ScanGenerator[tuple[str, str]]:
    """Consume text through the end of a tag; return its name attribute and the text after that."""
    yield from s.space()
    quote = (yield from s.expect('name="', "name='"))[-1]
    name = yield from s.take_while(_IN_ATTRIBUTE[quote])
    yield from s.expect(quote)
    rest = yield from s.take_while(_IN_TAG)
    yield from s.expect(">")
    return name, rest.strip()


def _unwrapped(arguments: dict[str, str], schema: Schema) -> str:
    """Return the arguments as JSON; models sometimes wrap all of them in an undeclared parameter."""
    known = schema.members()
    for key in _WRAPPERS:
        if known and list(arguments) == [key] and key not in known and arguments[key] != "null":
            return normalize_arguments(arguments[key]) or json_object(arguments)
    return json_object(arguments)
