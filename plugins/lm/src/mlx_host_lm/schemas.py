"""JSON schemas as llguidance keeps them: narrowed where it would let answers through that do not validate.

llguidance refuses by itself what it does not implement. This is about what it implements otherwise than validators do:
they parse numbers as floating point, see an object's keys once, and read regular expressions and dates in their own
way. What it cannot be made to keep is refused with the place in the schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Alternatives, Concat, Grammar, JsonValue, Repeat

from mlx_host_lm.patterns import DOT, Ambiguous, portable

MAX_DEPTH = 100
EXACT = 1 << 53
# llguidance builds an automaton with this many states and more.
MAX_MULTIPLE = 10_000

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_DATA = frozenset({"const", "enum", "default", "example", "examples", "required"})
# Formats that say how a value is to be shown or stored rather than what it is; to JSON Schema they are annotations.
_ANNOTATIONS = frozenset({"binary", "byte", "double", "float", "int32", "int64", "multi-line", "password", "textarea"})
_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DATE = rf"^(?:{_YEAR}-(?:0[13-9]|1[0-2]|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
# Not every validator knows of leap seconds; none lets the year 0 or a 29th of February pass that never was.
_STRICTER = {"date": _DATE, "date-time": rf"{_DATE}[^:]*:[^:]*:[0-5]", "time": "^[^:]*:[^:]*:[0-5]"}
_UNWRITABLE = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\x7f\ud800-\udfff]")

Schema = Mapping[str, Any] | bool


def kept(grammar: Grammar) -> Grammar:
    """The same grammar with its schemas narrowed; parts that stand in several places are one part still."""
    done: dict[int, Grammar] = {}

    def narrowed(part: Grammar) -> Grammar:
        if id(part) not in done:
            done[id(part)] = fresh(part)
        return done[id(part)]

    def fresh(part: Grammar) -> Grammar:
        match part:
            case JsonValue(schema, param):
                return JsonValue(keepable(schema, param), param)
            case Concat(parts):
                return Concat(tuple(map(narrowed, parts)))
            case Alternatives(parts):
                return Alternatives(tuple(map(narrowed, parts)))
            case Repeat(inner, minimum, maximum):
                return Repeat(narrowed(inner), minimum, maximum)
        return part

    return narrowed(grammar)


def keepable(schema: Schema, param: str | None) -> Schema:
    """Narrow a schema to answers that validate for every validator; InvalidRequestError names `param` and the place."""
    draft = schema.get("$schema") if isinstance(schema, Mapping) else None
    narrowed: Schema = _Narrower(param, draft if isinstance(draft, str) else "").schema(schema, "#")
    return narrowed


def place(schema: Any, keyword: str, at: str = "#") -> str | None:
    """Where in a schema a keyword stands first."""
    if isinstance(schema, Mapping):
        if keyword in schema and not at.endswith(tuple(f"/{name}" for name in _MAPS)):
            return at
        parts = [(f"{at}/{key}", part) for key, part in schema.items() if key not in _DATA]
    else:
        parts = [(f"{at}/{n}", part) for n, part in enumerate(schema)] if isinstance(schema, list) else []
    return next((found for at, part in parts if (found := place(part, keyword, at))), None)


class _Narrower:
    def __init__(self, param: str | None, draft: str) -> None:
        self._param = param
        self._draft = draft

    def schema(self, schema: Any, at: str, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise self._refusal(at, "schemas are taken up to", f"{MAX_DEPTH} levels deep")
        if isinstance(schema, list):
            return [self.schema(part, f"{at}/{n}", depth + 1) for n, part in enumerate(schema)]
        if not isinstance(schema, Mapping):
            return schema
        narrowed = {key: self._part(key, value, f"{at}/{key}", depth) for key, value in schema.items()}
        for narrow in (self._data, self._numbers, self._strings, self._objects, self._arrays):
            narrow(narrowed, at)
        return narrowed

    def _part(self, key: str, value: Any, at: str, depth: int) -> Any:
        if key in _DATA:
            return value
        if key in _MAPS and isinstance(value, Mapping):
            return {name: self.schema(part, f"{at}/{name}", depth + 2) for name, part in value.items()}
        # Under an unknown keyword, too, may stand what a $ref points to.
        return self.schema(value, at, depth + 1)

    def _data(self, schema: dict[str, Any], at: str) -> None:
        for keyword in ("const", "enum"):
            if any(_UNWRITABLE.search(text) for text in _texts(schema.get(keyword), MAX_DEPTH)):
                raise self._refusal(at, keyword, "holds text with control characters or half a surrogate pair")

    def _numbers(self, schema: dict[str, Any], at: str) -> None:
        self._bounds(schema, at)
        factor = schema.get("multipleOf")
        if isinstance(factor, int | float) and factor > 0:
            if not float(factor * 1024).is_integer():
                raise self._refusal(
                    at,
                    "multipleOf",
                    f"{factor!r} is no sum of halves, quarters …: what is a multiple "
                    "of it depends on how a validator rounds; use a pattern, or whole numbers",
                )
            if _without_tens(int(factor * 1024)) > MAX_MULTIPLE:
                raise self._refusal(at, "multipleOf", f"{factor!r} is more than can be counted by")

    def _bounds(self, schema: dict[str, Any], at: str) -> None:
        whole = schema.get("type") == "integer"
        for inclusive, exclusive, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
            bound = schema.get(exclusive)
            if isinstance(bound, bool):
                if "draft-04" not in self._draft and "draft-03" not in self._draft:
                    raise self._refusal(at, exclusive, "must be a number (it is true or false in draft 4 alone)")
                bound = schema.pop(inclusive, None) if schema.pop(exclusive) else None
                if bound is not None:
                    schema[exclusive] = bound
            outer, inner = _number(bound), _number(schema.get(inclusive))
            if whole and any(abs(limit) >= EXACT for limit in (outer, inner) if limit is not None):
                raise self._refusal(at, inclusive, f"integers are bounded below {EXACT} only, where they are exact")
            if not whole and outer is not None:
                # 0.99999999999999999 is less than 1 until it is parsed.
                inside = outer + sign * max(1e-12, abs(outer) * 1e-14)
                schema[inclusive] = inside if inner is None else sign * max(sign * inside, sign * inner)
                del schema[exclusive]

    def _strings(self, schema: dict[str, Any], at: str) -> None:
        if isinstance(pattern := schema.get("pattern"), str):
            schema["pattern"] = self._portable(pattern, at, "pattern")
        form = schema.get("format")
        if form in _ANNOTATIONS:
            del schema["format"]
        elif form in _STRICTER:
            others = schema.get("allOf")
            schema["allOf"] = [*(others if isinstance(others, list) else []), {"pattern": _STRICTER[form]}]

    def _objects(self, schema: dict[str, Any], at: str) -> None:
        least, required = schema.get("minProperties"), schema.get("required")
        certain = len(set(required)) if isinstance(required, list) else 0
        if isinstance(least, int) and least > certain + 1:
            raise self._refusal(
                at, "minProperties", "would count a key twice that is written twice; name the keys in required"
            )
        patterns = schema.get("patternProperties")
        if isinstance(patterns, Mapping):
            narrow = {self._portable(pattern, at, "patternProperties"): part for pattern, part in patterns.items()}
            # Where other keys are allowed, too, a key left out by one pattern is one of those.
            if schema.get("additionalProperties") is False:
                schema["patternProperties"] = narrow
            elif ambiguous := [
                key for key, each in zip(patterns, narrow, strict=True) if each.replace(DOT, ".") != key
            ]:
                raise self._refusal(
                    at,
                    "patternProperties",
                    f"validators differ in which keys match {ambiguous[0]!r}; write out its classes, such as [0-9], "
                    "or allow no additionalProperties",
                )

    def _arrays(self, schema: dict[str, Any], at: str) -> None:
        if isinstance(schema.get("items"), list) and not re.search("draft-0|2019-09", self._draft):
            raise self._refusal(at, "items", "must be one schema; a list of them is called prefixItems")
        if schema.get("uniqueItems") is False:
            del schema["uniqueItems"]

    def _portable(self, pattern: str, at: str, keyword: str) -> str:
        try:
            return portable(pattern)
        except Ambiguous as error:
            raise self._refusal(at, keyword, f"{pattern!r}: {error}") from error

    def _refusal(self, at: str, keyword: str, reason: str) -> InvalidRequestError:
        field = f"{self._param}: " if self._param else ""
        return InvalidRequestError(
            f"{field}the JSON schema cannot be kept: {keyword} at {at}: {reason}", param=self._param
        )


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _without_tens(number: int) -> int:
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
