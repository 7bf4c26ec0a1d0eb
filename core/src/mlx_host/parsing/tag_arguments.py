"""Arguments as tags with unquoted values, and the call notation of Qwen3-Coder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, chain
from mlx_host.parsing.arguments import json_object, json_string
from mlx_host.parsing.call_format import Notation
from mlx_host.parsing.call_grammars import check_function_name, parameters
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import CallSyntaxError, ScanGenerator, Scanner
from mlx_host.parsing.schema import Schema
from mlx_host.parsing.schema_nodes import SchemaNode, ToolFunction
from mlx_host.parsing.unquoted_values import UnquotedValue
from mlx_host.parsing.value_readers import ValueTags, at_natural_end, json_starts, read_value

_IN_KEY = re.compile(r"[^<>\n]*")
_IN_QUOTED_KEY = {'"': re.compile(r'[^<>\n"]*'), "'": re.compile(r"[^<>\n']*")}
_IN_KEY_ELEMENT = re.compile(r"[^<>]*")


@dataclass(frozen=True)
class TagArguments:
    """Arguments as key and value between tags; values are unquoted and typed by the schema.

    The models write `opener`, the key, `key_closer`, `gap`, `value_opener`, the value, the closer of `values`, `after`.
    `key` matches the keys that the format can represent. `variants` are pairs of an opener and a key's closer that are
    accepted, too. Whitespace around a key is removed with `strip_key`. If `values` have a pad or are trimmed, one
    newline on either side of a value belongs to the tags. With `glued`, tags need not begin on a new line.
    """

    opener: str
    key_closer: str
    values: UnquotedValue
    key: re.Pattern[str]
    value_opener: str = ""
    gap: str = ""
    after: str = ""
    variants: tuple[tuple[str, str], ...] = ()
    strip_key: bool = True
    glued: bool = False

    def read(
        self, s: Scanner, schema: Schema, ends: tuple[str, ...], outer: tuple[str, ...] = ()
    ) -> ScanGenerator[dict[str, str]]:
        """Parse all arguments and one of `ends`; return the JSON text of each value.

        The end may be missing before one of `outer`, which end what is around the call, and at the end of the output.
        After `CallStream.begin` the arguments are streamed: strings as they grow, other values one by one.
        """
        key_closers = dict(((self.opener, self.key_closer), *self.variants))
        tags = ValueTags(self.values.closers, tuple(key_closers), ends, outer, self.glued)
        arguments: dict[str, str] = {}
        current = ""

        def read_key(opener: str) -> ScanGenerator[str | None]:
            """Consume the rest of an opening tag and return its key; None if it is not a tag."""
            closer = key_closers[opener]
            key = yield from s.take_while(_key_pattern(closer))
            if not (yield from s.optional(closer)):
                return None
            if self.value_opener:
                yield from s.space()
                if not (yield from s.optional(self.value_opener)):
                    return None
            return key.strip() if self.strip_key else key

        def is_argument(opener: str) -> ScanGenerator[bool]:
            key = yield from read_key(opener)
            return key != current and key not in arguments and key in schema.members()

        while True:
            yield from s.space()
            found = yield from s.lookahead(*key_closers, *ends, *outer)
            if found not in key_closers:
                break
            yield from s.expect(found)
            key = yield from read_key(found)
            if key is None:
                raise CallSyntaxError
            current = key
            member = schema.member(key)
            if member.types() == {"string"}:
                s.stream.text(key, trim=self._padded)
            value = yield from read_value(s, tags, is_argument, json=json_starts(member))
            if self._padded:
                value = value.removeprefix("\n").removesuffix("\n")
            arguments[key] = member.json(value)
            s.stream.member(key, arguments[key])
        if found in ends:
            yield from s.expect(found)
        elif not found:
            if not arguments or not (yield from at_natural_end(s, *ends, *outer)):
                raise CallSyntaxError
            yield from s.optional(*ends, *outer)
        self._check(arguments, schema)
        return arguments

    def _check(self, arguments: Mapping[str, str], schema: Schema) -> None:
        """Raise CallSyntaxError if a value contains the tag of a required argument that is missing."""
        for key in schema.required() - arguments.keys():
            tag = json_string(f"{self.opener}{key}{self.key_closer}")[1:-1]
            if any(tag in value for value in arguments.values()):
                raise CallSyntaxError

    @property
    def _padded(self) -> bool:
        return bool(self.values.pad) or self.values.trimmed

    @property
    def _before_value(self) -> str:
        return self.key_closer + self.gap + self.value_opener

    def grammar(self, function: ToolFunction) -> Grammar:
        """Return the grammar of a call's arguments: the required ones and any of the others."""
        return parameters(function, self.opener, self._before_value, self.key, self._value)

    def _value(self, node: SchemaNode) -> Grammar:
        return chain(self.values.value(node), self.after)

    def write(self, arguments: Mapping[str, Any]) -> str:
        return "".join(
            f"{self.opener}{key}{self._before_value}{self._unquoted(value)}{self.values.pad}{self.values.closer}{self.after}"
            for key, value in arguments.items()
        )

    def _unquoted(self, value: object) -> str:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if self.values.trimmed:
            # The reader removes one newline on either side, which models add. Double those that belong to the value.
            text = "\n" * text.startswith("\n") + text + "\n" * text.endswith("\n")
        return text


_NAME = re.compile(r"[^<>\s]+")


def _key_pattern(closer: str) -> re.Pattern[str]:
    if closer.startswith("</"):
        return _IN_KEY_ELEMENT
    return _IN_QUOTED_KEY.get(closer[0], _IN_KEY)


_PARAMETERS = TagArguments("<parameter=", ">", UnquotedValue("</parameter>", pad="\n"), _NAME, gap="\n", after="\n")
_FUNCTION, _END_FUNCTION = "<function=", "</function>"


@dataclass(frozen=True)
class FunctionXml(Notation):
    """`<function=N><parameter=K>V</parameter>…</function>`, with each tag and value on its own line.

    One newline on either side of V belongs to the tags; the rest of V is verbatim.
    """

    @property
    def starts(self) -> tuple[str, ...]:
        return (_FUNCTION,)

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        yield from s.space()
        another = _FUNCTION
        while another:
            yield from s.expect(_FUNCTION)
            name = (yield from s.take_while(_IN_KEY)).strip()
            yield from s.expect(">")
            s.stream.begin(name)
            arguments = yield from _PARAMETERS.read(s, s.schema(name), (_END_FUNCTION,), closers)
            yield from s.space()
            closed = yield from s.optional(*closers)
            another = "" if closed else (yield from s.lookahead(_FUNCTION))
            s.emit_call(name, json_object(arguments))

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        return chain(
            f"{_FUNCTION}{check_function_name(function, _NAME)}>\n", _PARAMETERS.grammar(function), _END_FUNCTION
        )

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return f"{_FUNCTION}{name}>\n{_PARAMETERS.write(arguments)}{_END_FUNCTION}"
