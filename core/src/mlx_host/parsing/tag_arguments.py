"""Arguments as tags with unquoted values, and the call notation of Qwen3-Coder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, chain
from mlx_host.parsing.arguments import json_object
from mlx_host.parsing.call_format import Notation
from mlx_host.parsing.call_grammars import check_function_name, parameters
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.scanner import ScanGenerator, Scanner
from mlx_host.parsing.schema import Schema
from mlx_host.parsing.schema_nodes import SchemaNode, ToolFunction
from mlx_host.parsing.unquoted_values import UnquotedValue
from mlx_host.parsing.value_readers import read_typed_value


@dataclass(frozen=True)
class TagArguments:
    """Arguments as key and value between tags; values are unquoted and typed by the schema.

    The models write `opener`, the key, `key_closer`, `gap`, `value_opener`, the value, the closer of `values`, `after`.
    `key` matches the keys that the format can represent. A key is parsed up to `key_closer`; with `key_run` it may
    contain only the characters of that pattern, and with `strip_key` whitespace around it is removed. If `values` have
    a pad or are trimmed, one newline on either side of a value belongs to the tags.
    """

    opener: str
    key_closer: str
    values: UnquotedValue
    key: re.Pattern[str]
    value_opener: str = ""
    gap: str = ""
    after: str = ""
    key_run: re.Pattern[str] | None = None
    strip_key: bool = True

    def read(self, s: Scanner, schema: Schema, *ends: str) -> ScanGenerator[dict[str, str]]:
        """Parse all arguments and one of `ends`; return the JSON text of each value."""
        arguments: dict[str, str] = {}
        while True:
            yield from s.space()
            if (yield from s.expect(self.opener, *ends)) != self.opener:
                return arguments
            key = yield from self._read_key(s)
            if self.value_opener:
                yield from s.space()
                yield from s.expect(self.value_opener)
            member = schema.member(key)
            value = yield from read_typed_value(s, member, self.values.closer)
            if self._padded:
                value = value.removeprefix("\n").removesuffix("\n")
            arguments[key] = member.json(value)

    def _read_key(self, s: Scanner) -> ScanGenerator[str]:
        if self.key_run is None:
            key, _ = yield from s.until(self.key_closer)
        else:
            key = yield from s.take_while(self.key_run)
            yield from s.expect(self.key_closer)
        return key.strip() if self.strip_key else key

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


_IN_TAG = re.compile(r"[^<>\n]*")
_NAME = re.compile(r"[^<>\s]+")
_PARAMETERS = TagArguments(
    "<parameter=", ">", UnquotedValue("</parameter>", pad="\n"), _NAME, gap="\n", after="\n", key_run=_IN_TAG
)
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
        yield from s.expect(_FUNCTION)
        name = (yield from s.take_while(_IN_TAG)).strip()
        yield from s.expect(">")
        arguments = yield from _PARAMETERS.read(s, s.schema(name), _END_FUNCTION)
        yield from s.space()
        yield from s.optional(*closers)
        s.emit_call(name, json_object(arguments))

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        return chain(
            f"{_FUNCTION}{check_function_name(function, _NAME)}>\n", _PARAMETERS.grammar(function), _END_FUNCTION
        )

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return f"{_FUNCTION}{name}>\n{_PARAMETERS.write(arguments)}{_END_FUNCTION}"
