"""Narrows JSON schemas where llguidance would allow output that does not validate.

llguidance rejects what it does not implement. This module covers what it implements differently from validators:
numbers, which validators parse as floating point, duplicate keys, regular expressions and dates. A schema that
cannot be narrowed is rejected with the location in the schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Alternatives, Concat, Grammar, JsonValue, Repeat
from mlx_host.parsing.schema_normalization import DATA_KEYWORDS, SCHEMAS_BY_NAME, normalize_schema
from mlx_host.parsing.schema_regex import whole_regex

from mlx_host_text.portable_regex import DOT, AmbiguousRegexError, to_portable_regex

MAX_DEPTH = 100
# Integers below this are exact in floating point.
MAX_EXACT_INTEGER = 1 << 53
# llguidance supports no larger bound of a number.
MAX_NUMBER = 9e18
# llguidance builds an automaton with at least this many states.
MAX_MULTIPLE = 10_000

_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DATE = rf"^(?:{_YEAR}-(?:0[13-9]|1[0-2]|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
# Some validators reject leap seconds; all reject the year 0 and a 29th of February of a common year.
_STRICT_FORMATS = {"date": _DATE, "date-time": rf"{_DATE}[^:]*:[^:]*:[0-5]", "time": "^[^:]*:[^:]*:[0-5]"}
_NOT_WRITABLE = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f\ud800-\udfff]")

Schema = Mapping[str, Any] | bool
Exhausts = Callable[[Iterable[str], str], bool]


def narrow_grammar(grammar: Grammar, exhausts: Exhausts | None = None) -> Grammar:
    """Narrow the schemas of a grammar with `narrow_schema`; shared nodes stay shared."""
    done: dict[int, Grammar] = {}

    def narrowed(part: Grammar) -> Grammar:
        if id(part) not in done:
            done[id(part)] = fresh(part)
        return done[id(part)]

    def fresh(part: Grammar) -> Grammar:
        match part:
            case JsonValue(schema, param):
                return JsonValue(narrow_schema(schema, param, exhausts), param)
            case Concat(parts):
                return Concat(tuple(map(narrowed, parts)))
            case Alternatives(parts):
                return Alternatives(tuple(map(narrowed, parts)))
            case Repeat(inner, minimum, maximum):
                return Repeat(narrowed(inner), minimum, maximum)
        return part

    return narrowed(grammar)


def narrow_schema(schema: Schema, param: str | None, exhausts: Exhausts | None = None) -> Schema:
    """Narrow a schema to values that every validator accepts; InvalidRequestError names `param` and the location.

    `exhausts(names, regex)` is whether no other text matches the regex; None: unknown.
    """
    if not isinstance(schema, Mapping):
        return schema
    draft = schema.get("$schema")
    narrowed: Schema = _Narrower(param, draft if isinstance(draft, str) else "", exhausts).schema(
        normalize_schema(schema), "#"
    )
    return narrowed


def find_keyword(schema: Any, keyword: str, at: str = "#") -> str | None:
    """The location of a keyword's first occurrence in a schema."""
    if isinstance(schema, Mapping):
        if keyword in schema and not at.endswith(tuple(f"/{name}" for name in SCHEMAS_BY_NAME)):
            return at
        parts = [(f"{at}/{key}", part) for key, part in schema.items() if key not in DATA_KEYWORDS]
    else:
        parts = [(f"{at}/{n}", part) for n, part in enumerate(schema)] if isinstance(schema, list) else []
    return next((found for at, part in parts if (found := find_keyword(part, keyword, at))), None)


class _Narrower:
    def __init__(self, param: str | None, draft: str, exhausts: Exhausts | None) -> None:
        self._param = param
        self._draft = draft
        self._exhausts = exhausts

    def schema(self, schema: Any, at: str, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise self._rejection(at, None, f"more than {MAX_DEPTH} levels deep")
        if isinstance(schema, list):
            return [self.schema(part, f"{at}/{n}", depth + 1) for n, part in enumerate(schema)]
        if not isinstance(schema, Mapping):
            return schema
        narrowed = {key: self._part(key, value, f"{at}/{key}", depth) for key, value in schema.items()}
        for narrow in (self._data, self._numbers, self._strings, self._objects, self._arrays):
            narrow(narrowed, at)
        return narrowed

    def _part(self, key: str, value: Any, at: str, depth: int) -> Any:
        if key in DATA_KEYWORDS:
            return value
        if key in SCHEMAS_BY_NAME and isinstance(value, Mapping):
            return {name: self.schema(part, f"{at}/{name}", depth + 2) for name, part in value.items()}
        # A $ref may also point below an unknown keyword.
        return self.schema(value, at, depth + 1)

    def _data(self, schema: dict[str, Any], at: str) -> None:
        for keyword in ("const", "enum"):
            if any(_NOT_WRITABLE.search(text) for text in _texts(schema.get(keyword), MAX_DEPTH)):
                raise self._rejection(at, keyword, "contains text with control characters or an unpaired surrogate")

    def _numbers(self, schema: dict[str, Any], at: str) -> None:
        self._bounds(schema, at)
        factor = schema.get("multipleOf")
        if isinstance(factor, int | float) and factor > 0:
            if not float(factor * 1024).is_integer():
                raise self._rejection(
                    at,
                    "multipleOf",
                    f"{factor!r} has no exact binary representation, so validators disagree about its multiples; "
                    "use a pattern or an integer",
                )
            if _without_factors_of_ten(int(factor * 1024)) > MAX_MULTIPLE:
                raise self._rejection(at, "multipleOf", f"{factor!r} is too large")

    def _bounds(self, schema: dict[str, Any], at: str) -> None:
        types = schema.get("type")
        whole = "integer" in types and "number" not in types if isinstance(types, list) else types == "integer"
        widest = MAX_EXACT_INTEGER - 1 if whole else MAX_NUMBER
        for inclusive, exclusive, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
            bound = schema.get(exclusive)
            if isinstance(bound, bool):
                if "draft-04" not in self._draft and "draft-03" not in self._draft:
                    raise self._rejection(at, exclusive, "must be a number (booleans are allowed in draft 4 only)")
                bound = schema.pop(inclusive, None) if schema.pop(exclusive) else None
                if bound is not None:
                    schema[exclusive] = bound
            for keyword in (inclusive, exclusive):
                if (limit := _number(schema.get(keyword))) is not None and sign * limit < -widest:
                    # Such as the range of 64-bit integers: values within `widest` satisfy it.
                    del schema[keyword]
                    schema[inclusive] = sign * max(-widest, sign * schema.get(inclusive, -sign * widest))
            outer, inner = _number(schema.get(exclusive)), _number(schema.get(inclusive))
            if whole and any(abs(limit) >= MAX_EXACT_INTEGER for limit in (outer, inner) if limit is not None):
                raise self._rejection(at, inclusive, f"the bounds of integers must be below {MAX_EXACT_INTEGER}")
            if not whole and outer is not None:
                # 0.99999999999999999 is less than 1 until it is parsed as floating point.
                inside = outer + sign * max(1e-12, abs(outer) * 1e-14)
                schema[inclusive] = inside if inner is None else sign * max(sign * inside, sign * inner)
                del schema[exclusive]

    def _strings(self, schema: dict[str, Any], at: str) -> None:
        if isinstance(pattern := schema.get("pattern"), str):
            schema["pattern"] = self._portable(pattern, at, "pattern")
        format_name = schema.get("format")
        if format_name in _STRICT_FORMATS:
            others = schema.get("allOf")
            schema["allOf"] = [*(others if isinstance(others, list) else []), {"pattern": _STRICT_FORMATS[format_name]}]

    def _objects(self, schema: dict[str, Any], at: str) -> None:
        minimum, required = schema.get("minProperties"), schema.get("required")
        certain = len(set(required)) if isinstance(required, list) else 0
        if isinstance(minimum, int) and minimum > certain + 1:
            raise self._rejection(
                at,
                "minProperties",
                "must not exceed the number of required keys by more than one; list the keys in required",
            )
        patterns = schema.get("patternProperties")
        if isinstance(patterns, Mapping):
            narrow = {self._portable(pattern, at, "patternProperties"): part for pattern, part in patterns.items()}
            # If other keys are allowed, a key that the narrowed pattern does not match is one of them.
            if schema.get("additionalProperties") is False:
                schema["patternProperties"] = narrow
                self._drop_exhausted_patterns(schema)
            elif ambiguous := [
                key for key, each in zip(patterns, narrow, strict=True) if each.replace(DOT, ".") != key
            ]:
                raise self._rejection(
                    at,
                    "patternProperties",
                    f"validators disagree about which keys match {ambiguous[0]!r}; use explicit classes, such as "
                    "[0-9], or set additionalProperties to false",
                )

    def _drop_exhausted_patterns(self, schema: dict[str, Any]) -> None:
        """Replace a pattern that only declared properties can match by schemas of these properties.

        llguidance would begin another property, and fail.
        """
        properties = schema.get("properties")
        if self._exhausts is None or not isinstance(properties, Mapping):
            return
        for pattern, part in list(schema["patternProperties"].items()):
            regex = whole_regex(pattern)
            if regex is None or not self._exhausts(properties, regex):
                continue
            del schema["patternProperties"][pattern]
            schema["properties"] = properties = {
                name: {"allOf": [own, part]} if re.fullmatch(regex, name) else own for name, own in properties.items()
            }

    def _arrays(self, schema: dict[str, Any], at: str) -> None:
        if isinstance(schema.get("items"), list) and not re.search("draft-0|2019-09", self._draft):
            raise self._rejection(at, "items", "must be one schema; use prefixItems for a list of schemas")
        if schema.get("uniqueItems") is False:
            del schema["uniqueItems"]

    def _portable(self, pattern: str, at: str, keyword: str) -> str:
        try:
            return to_portable_regex(pattern)
        except AmbiguousRegexError as error:
            raise self._rejection(at, keyword, f"{pattern!r}: {error}") from error

    def _rejection(self, at: str, keyword: str | None, reason: str) -> InvalidRequestError:
        field = f"{self._param}: " if self._param else ""
        location = at if keyword is None else f"keyword {keyword!r} at {at}"
        return InvalidRequestError(f"{field}unsupported JSON schema: {location}: {reason}.", param=self._param)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _without_factors_of_ten(number: int) -> int:
    for prime in (2, 5):
        while number and number % prime == 0:
            number //= prime
    return number


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, Mapping):
        yield from value
        for part in value.values():
            yield from _texts(part, depth - 1)
    elif depth and isinstance(value, list):
        for part in value:
            yield from _texts(part, depth - 1)
