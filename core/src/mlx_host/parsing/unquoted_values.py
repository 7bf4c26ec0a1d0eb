"""Grammars of unquoted values between tags, such that Schema.json parses them into values that the schema allows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlx_host.grammar import ANY, Grammar, TextThrough, chain, one_of
from mlx_host.parsing.schema import Schema
from mlx_host.parsing.schema_nodes import SchemaNode, alternatives, enum_values
from mlx_host.parsing.schema_regex import whole_regex

_INTEGER = "-?(?:0|[1-9][0-9]*)"
_WORDS = {"integer": _INTEGER, "number": rf"{_INTEGER}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"}
# The first characters of a type's values.
_FIRST_CHARS = {"object": "{", "array": r"\[", "boolean": "tfTF", "integer": "0-9-", "number": "0-9-"}
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
# The maximum length up to which the grammar counts characters exactly.
_MAX_COUNTED_LENGTH = 100

_OCTET = "25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]"
FORMATS = {
    "date": r"[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))",
    "time": r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
    "uuid": r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
    "ipv4": rf"(?:(?:{_OCTET})\.){{3}}(?:{_OCTET})",
    "email": r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*",
    "hostname": r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*",
    "uri": r"[a-zA-Z][a-zA-Z0-9+.-]*:[a-zA-Z0-9._~:/?#@!$&'()*+,;=%-]+",
}
FORMATS["date-time"] = f"(?:{FORMATS['date']})T{FORMATS['time']}"


@dataclass(frozen=True)
class UnquotedValue:
    """Unquoted values through `closer`, or through one of the `variants` that the reader accepts instead.

    The models write `pad` between the value and the closer, and the reader removes it once. With `trimmed` the reader
    removes a newline on either side, which the models do not write.
    """

    closer: str
    pad: str = ""
    trimmed: bool = False
    variants: tuple[str, ...] = ()

    @property
    def closers(self) -> tuple[str, ...]:
        return (self.closer, *self.variants)

    def value(self, node: SchemaNode) -> Grammar:
        """Return the grammar of a value of any allowed type, except text that would be parsed as a disallowed one."""
        node = node.resolved()
        types = node.types()
        if types and "string" not in types:
            return self._json(node)
        parts = alternatives(node)
        if not types:
            unrestricted = any(not part.keywords() for part in parts)
            return TextThrough(self.closers) if unrestricted else self._json(node)
        not_first = "".join(sorted({_FIRST_CHARS.get(name, "") for part in parts for name in _restricted_types(part)}))
        return one_of(*(choice for part in parts for choice in self._choices(part, not_first, node.schema())))

    def strings(self, node: SchemaNode) -> Grammar:
        """Return the grammar of a string, for formats that mark strings."""
        listed = enum_values(node)
        if listed is None:
            return self.text(node)
        options = [
            chain(f"{value}{self.pad}{self.closer}") for value in listed if not self._contains_closer(str(value))
        ]
        if not options:
            node.reject("enum")
        return one_of(*options)

    def text(self, node: SchemaNode, not_first: str = "") -> Grammar:
        """Return the grammar of a verbatim string; `not_first` are characters with which it must not begin."""
        regexes = list(_regexes(node))
        min_length, max_length = _lengths(node)
        first, second = re.escape(self.closer[0]), re.escape(self.closer[1:2])
        unless = [f"(?s:.*){re.escape(closer)}(?s:.*)" for closer in self.closers] if regexes else []
        if max_length is not None and max_length <= _MAX_COUNTED_LENGTH:
            # llguidance cannot count characters and search for the closer at once: exclude the closer's first char.
            regexes.append(f"[^{first}]{{{min_length},{max_length}}}")
            unless = []
        elif (min_length or max_length is not None) and regexes:
            node.reject("maxLength" if max_length is not None else "minLength")
        elif min_length or max_length is not None:
            begun = min_length + len(self.pad) if min_length else 0
            head = f"(?:[^{first}]|{first}[^{first}{second}]){{{begun}}}"
            rest = "" if max_length is None else max(0, max_length - 2 * begun)
            return TextThrough(self.closers, (f"(?s:{head}.{{0,{rest}}})",))
        if self.trimmed and regexes:
            unless += [r"\n(?s:.*)", r"(?s:.*)\n"]
        matching = [f"(?:{regex}){self.pad}" for regex in regexes]
        if not_first:
            matching.append(rf"(?:[^\s\x1c-\x1f{not_first}](?s:.*))?(?:{self.pad})?")
        return TextThrough(self.closers, tuple(matching) or (ANY,), tuple(unless))

    def _json(self, node: SchemaNode) -> Grammar:
        return chain(node.json(), self.pad + self.closer)

    def _choices(self, part: SchemaNode, not_first: str, reader: Schema) -> Iterable[Grammar]:
        """Yield the grammars of one alternative, if strings are another: all but JSON containers are one lexeme.

        Otherwise the lexer, which takes the longest match, would match the beginning of a string and get stuck.
        """
        types = part.types()
        if (listed := enum_values(part)) is not None:
            yield one_of(*self._listed(part, listed, reader))
        elif types == {"string"}:
            yield self.text(part, not_first)
        elif types == {"null"}:
            yield chain("null" + self.pad + self.closer)
        elif types == {"boolean"}:
            yield one_of("true" + self.pad + self.closer, "false" + self.pad + self.closer)
        elif types <= {"integer", "number"} and not part.keywords() & _LIMITS:
            yield TextThrough(self.closers, ("|".join(_WORDS[name] + self.pad for name in types),))
        else:
            yield self._json(part)

    def _listed(self, part: SchemaNode, listed: list[object], reader: Schema) -> Iterable[Grammar]:
        """Yield the grammars of the listed values that are parsed back as themselves."""
        texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in listed]
        options = [
            chain(text + self.pad + self.closer)
            for text, value in zip(texts, listed, strict=True)
            if not self._contains_closer(text)
            and json.loads(reader.json(self._without_padding(text + self.pad))) == value
        ]
        if not options:
            part.reject("enum")
        return options

    def _contains_closer(self, text: str) -> bool:
        return any(closer in text for closer in self.closers)

    def _without_padding(self, text: str) -> str:
        return text.removeprefix("\n").removesuffix("\n") if self.trimmed else text.removesuffix(self.pad)


def _restricted_types(part: SchemaNode) -> Iterable[str]:
    """Yield the types that text must not be parsed as, because only some of their values are allowed."""
    types = part.types()
    if enum_values(part) is not None or types & {"object", "array"} or part.keywords() & _LIMITS:
        yield from types


def _lengths(node: SchemaNode) -> tuple[int, int | None]:
    min_length, max_length = node.raw.get("minLength", 0), node.raw.get("maxLength")
    for keyword, value in (("minLength", min_length), ("maxLength", max_length or 0)):
        if not isinstance(value, int) or value < 0:
            node.reject(keyword)
    return min_length, max_length


def _regexes(node: SchemaNode) -> Iterable[str]:
    """Yield the regexes that the whole string must match."""
    if "pattern" in node.raw:
        regex = whole_regex(node.raw["pattern"])
        if regex is None:
            node.reject("pattern")
        yield regex
    if (known := FORMATS.get(node.raw.get("format", ""))) is not None:
        yield known
