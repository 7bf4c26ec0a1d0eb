"""The grammar of values that stand as bare text between tags, so that Schema.json reads back what the schema allows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlx_host.grammar import ANY, Grammar, TextThrough, chain, one_of
from mlx_host.parsing.schema import Schema
from mlx_host.parsing.schema_nodes import Place, branches, values
from mlx_host.parsing.schema_regex import whole_regex

_INTEGER = "-?(?:0|[1-9][0-9]*)"
_WORDS = {"integer": _INTEGER, "number": rf"{_INTEGER}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"}
# What a value of a type may begin with.
_FIRST = {"object": "{", "array": r"\[", "boolean": "tfTF", "integer": "0-9-", "number": "0-9-"}
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
# Up to this length characters are counted exactly.
_SHORT = 100

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
class BareText:
    """Values up to and with `closer`, or one of `variants` that the reader takes for it.

    `pad` is what the models write between value and closer, and the reader takes off once. With `trimmed` the reader
    takes off a newline on either side, which the models do not write.
    """

    closer: str
    pad: str = ""
    trimmed: bool = False
    variants: tuple[str, ...] = ()

    @property
    def closers(self) -> tuple[str, ...]:
        return (self.closer, *self.variants)

    def value(self, place: Place) -> Grammar:
        """A value of any type; text that would be read as one that is not allowed is left out."""
        place = place.resolved()
        types = place.types()
        if types and "string" not in types:
            return self._json(place)
        parts = branches(place)
        if not types:
            free = any(not part.says() for part in parts)
            return TextThrough(self.closers) if free else self._json(place)
        not_first = "".join(sorted({_FIRST.get(name, "") for part in parts for name in _guarded(part)}))
        return one_of(*(choice for part in parts for choice in self._choices(part, not_first, place.schema())))

    def strings(self, place: Place) -> Grammar:
        """A string in a format that tells text from other values."""
        listed = values(place)
        if listed is None:
            return self.text(place)
        told = [chain(f"{value}{self.pad}{self.closer}") for value in listed if not self._ends_in(str(value))]
        if not told:
            place.refuse("enum")
        return one_of(*told)

    def text(self, place: Place, not_first: str = "") -> Grammar:
        """A string, read verbatim; `not_first` are characters that it does not begin with."""
        regexes = list(_regexes(place))
        least, most = _lengths(place)
        first, second = re.escape(self.closer[0]), re.escape(self.closer[1:2])
        unless = [f"(?s:.*){re.escape(closer)}(?s:.*)" for closer in self.closers] if regexes else []
        if most is not None and most <= _SHORT:
            # llguidance cannot count and look for the end at once, so the end cannot begin within.
            regexes.append(f"[^{first}]{{{least},{most}}}")
            unless = []
        elif (least or most is not None) and regexes:
            place.refuse("maxLength" if most is not None else "minLength")
        elif least or most is not None:
            begun = least + len(self.pad) if least else 0
            head = f"(?:[^{first}]|{first}[^{first}{second}]){{{begun}}}"
            longest = "" if most is None else max(0, most - 2 * begun)
            return TextThrough(self.closers, (f"(?s:{head}.{{0,{longest}}})",))
        if self.trimmed and regexes:
            unless += [r"\n(?s:.*)", r"(?s:.*)\n"]
        matching = [f"(?:{regex}){self.pad}" for regex in regexes]
        if not_first:
            matching.append(rf"(?:[^\s\x1c-\x1f{not_first}](?s:.*))?(?:{self.pad})?")
        return TextThrough(self.closers, tuple(matching) or (ANY,), tuple(unless))

    def _json(self, place: Place) -> Grammar:
        return chain(place.json(), self.pad + self.closer)

    def _choices(self, part: Place, not_first: str, reader: Schema) -> Iterable[Grammar]:
        """One branch of several that text is among: all but JSON with brackets is one lexeme up to the closer.

        Else the lexer, which goes for the longest, would take the beginning of what else it might be, and get stuck.
        """
        types = part.types()
        if (listed := values(part)) is not None:
            yield one_of(*self._listed(part, listed, reader))
        elif types == {"string"}:
            yield self.text(part, not_first)
        elif types == {"null"}:
            yield chain("null" + self.pad + self.closer)
        elif types == {"boolean"}:
            yield one_of("true" + self.pad + self.closer, "false" + self.pad + self.closer)
        elif types <= {"integer", "number"} and not part.says() & _LIMITS:
            yield TextThrough(self.closers, ("|".join(_WORDS[name] + self.pad for name in types),))
        else:
            yield self._json(part)

    def _listed(self, part: Place, listed: list[object], reader: Schema) -> Iterable[Grammar]:
        """The values that are read back as what they are."""
        texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in listed]
        told = [
            chain(text + self.pad + self.closer)
            for text, value in zip(texts, listed, strict=True)
            if not self._ends_in(text) and json.loads(reader.json(self._read(text + self.pad))) == value
        ]
        if not told:
            part.refuse("enum")
        return told

    def _ends_in(self, text: str) -> bool:
        return any(closer in text for closer in self.closers)

    def _read(self, text: str) -> str:
        return text.removeprefix("\n").removesuffix("\n") if self.trimmed else text.removesuffix(self.pad)


def _guarded(part: Place) -> Iterable[str]:
    """The types of which text may not be read, where the part allows some values of them only."""
    types = part.types()
    if values(part) is not None or types & {"object", "array"} or part.says() & _LIMITS:
        yield from types


def _lengths(place: Place) -> tuple[int, int | None]:
    least, most = place.node.get("minLength", 0), place.node.get("maxLength")
    for keyword, value in (("minLength", least), ("maxLength", most or 0)):
        if not isinstance(value, int) or value < 0:
            place.refuse(keyword)
    return least, most


def _regexes(place: Place) -> Iterable[str]:
    """Regular expressions of whole strings."""
    if "pattern" in place.node:
        regex = whole_regex(place.node["pattern"])
        if regex is None:
            place.refuse("pattern")
        yield regex
    if (known := FORMATS.get(place.node.get("format", ""))) is not None:
        yield known
