"""Kimi K3's notation of a call: an element that contains an element for each argument, with the value's type.

call      = "<|open|>call tool=" , quoted , " index=" , quoted , "<|sep|>" , ( { argument } | json ) ,
            "<|close|>call<|sep|>" ;
argument  = "<|open|>argument key=" , quoted , " type=" , quoted , "<|sep|>" , value , "<|close|>argument<|sep|>" ;
json      = "<|open|>json" , attributes , "<|sep|>" , JSON object , "<|close|>json<|sep|>" ;
quoted    = '"' , text with &quot; and &amp; , '"' ;
value     = verbatim text if the type is string, otherwise JSON ;
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, Pattern, chain, one_of
from mlx_host.parsing import (
    Notation,
    ScanGenerator,
    Scanner,
    SchemaNode,
    ToolChoice,
    ToolFunction,
    UnquotedValue,
    ValueTags,
    at_natural_end,
    check_function_name,
    json_object,
    object_members,
    parameters,
    read_arguments,
    read_value,
    split_by_type,
)

CALL = "<|open|>call "

_SEP = "<|sep|>"
_CALL_END = "<|close|>call<|sep|>"
_ARGUMENT, _ARGUMENT_END = "<|open|>argument ", "<|close|>argument<|sep|>"
_JSON, _JSON_END = "<|open|>json", "<|close|>json<|sep|>"

_TYPES = {"null", "boolean", "integer", "number", "object", "array"}
_NAMES = {type(None): "null", bool: "boolean", int: "number", float: "number", dict: "object", list: "array"}

_KEY = re.compile(r"[^<>\n]+")
_PLAIN_KEY = re.compile(r'[^\s<>"&]+')
_INDEX = Pattern("[1-9][0-9]{0,2}")
_IN_TAG = re.compile(r"[^<>\n]*")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class KimiK3Call(Notation):
    """One call with a name, an index from 1 and arguments."""

    @property
    def starts(self) -> tuple[str, ...]:
        return (CALL,)

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        yield from s.expect(CALL)
        name = (yield from _attributes(s)).get("tool", "")
        schema = s.schema(name)
        s.stream.begin(name)
        arguments: dict[str, str] = {}
        key = ""

        def is_argument(opener: str) -> ScanGenerator[bool]:
            text = yield from s.take_while(_IN_TAG)
            if not (yield from s.optional(_SEP)):
                return False
            other = _unescaped(text).get("key")
            return other != key and other not in arguments and other in schema.members()

        tags = ValueTags((_ARGUMENT_END,), (_ARGUMENT,), (_CALL_END,), closers, glued=True)
        while True:
            yield from s.space()
            found = yield from s.lookahead(_ARGUMENT, _JSON, _CALL_END)
            if not found and arguments and (yield from at_natural_end(s, _CALL_END)):
                yield from s.optional(_CALL_END)
                break
            yield from s.expect(_ARGUMENT, _JSON, _CALL_END)
            if found == _CALL_END:
                break
            attributes = yield from _attributes(s)
            if found == _JSON:
                arguments |= object_members((yield from read_arguments(s, name, _JSON_END, stream=False)))
                yield from s.space()
                yield from s.expect(_JSON_END)
                yield from s.space()
                yield from s.optional(_CALL_END)
                break
            key, is_text = attributes.get("key", ""), attributes.get("type") == "string"
            member = schema.member(key)
            if is_text and member.may_be_string():
                s.stream.text(key)
            value = yield from read_value(s, tags, is_argument, json="" if is_text else '{["')
            arguments[key] = member.tagged_json(value, is_string=is_text)
            s.stream.member(key, arguments[key])
        s.emit_call(name, json_object(arguments))

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        name = _escaped(check_function_name(function, _KEY))
        arguments = parameters(
            function, f'{_ARGUMENT}key="', '" type=', _KEY, _value, escape=_escaped, other_key=_PLAIN_KEY
        )
        return chain(f'{CALL}tool="{name}" index="', _INDEX, f'"{_SEP}', arguments, _CALL_END)

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        inner = "".join(_write(key, value) for key, value in arguments.items())
        return self.write_element(name, inner, number)

    def write_element(self, name: str, inner: str, number: int = 0) -> str:
        """Write a call with `inner` verbatim between its tags."""
        return f'{CALL}tool="{_escaped(name)}" index="{number + 1}"{_SEP}{inner}{_CALL_END}'


def _attributes(s: Scanner) -> ScanGenerator[dict[str, str]]:
    return _unescaped((yield from s.until(_SEP))[0])


def _unescaped(attributes: str) -> dict[str, str]:
    return {key: value.replace("&quot;", '"').replace("&amp;", "&") for key, value in _ATTRIBUTE.findall(attributes)}


def _value(node: SchemaNode) -> Grammar:
    """Return the grammar of the text after `type=`."""
    texts, others = split_by_type(node)
    strings = [chain(f'"string"{_SEP}', UnquotedValue(_ARGUMENT_END).strings(part)) for part in texts]
    typed = [(kind, part) for part in others for kind in sorted(part.types() or _TYPES - {"integer"})]
    values = [
        chain(f'"{"number" if kind == "integer" else kind}"{_SEP}', _typed(part, kind).json(), _ARGUMENT_END)
        for kind, part in typed
    ]
    return one_of(*strings, *values)


def _typed(node: SchemaNode, kind: str) -> SchemaNode:
    return node if node.types() else node.subschema({**node.raw, "type": kind})


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;")


def _write(key: str, value: object) -> str:
    if isinstance(value, str):
        return write_argument(key, "string", value)
    return write_argument(key, _NAMES[type(value)], json.dumps(value, ensure_ascii=False))


def write_argument(key: str, kind: str, value: str) -> str:
    """Write an argument of the type `kind` with a verbatim value."""
    return f'{_ARGUMENT}key="{_escaped(key)}" type="{kind}"{_SEP}{value}{_ARGUMENT_END}'
