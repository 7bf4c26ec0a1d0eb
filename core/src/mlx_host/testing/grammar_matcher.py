"""Matches short texts against a grammar, for tests without llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlx_host.grammar import (
    Alternatives,
    Concat,
    FreeText,
    Grammar,
    JsonValue,
    LiteralText,
    Pattern,
    Repeat,
    TextThrough,
)
from mlx_host.parsing.schema import resolve_pointer

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# The only white space in constrained JSON is one space after a comma or colon.
_WRONG_SPACE = re.compile(r"[\t\n\r]|(?<![,:]) ")
_WRONG_ESCAPE = re.compile(r'\\(?![nrbtf\\"])')
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def admits(grammar: Grammar, text: str) -> bool:
    """Return whether the grammar matches the whole text.

    Supports the JSON Schema keywords that the tools in `mlx_host.testing.samples` use. TypeError for a LarkGrammar.
    """
    return len(text) in _ends(grammar, text, {0})


def _ends(grammar: Grammar, text: str, starts: set[int]) -> set[int]:
    """Return the possible ends of matches that begin at one of `starts`."""
    match grammar:
        case Concat(parts):
            for part in parts:
                starts = _ends(part, text, starts)
            return starts
        case Alternatives(parts):
            return {end for part in parts for end in _ends(part, text, starts)}
        case Repeat(part, minimum, maximum):
            return _repeated(part, text, starts, minimum, maximum)
    return {end for start in starts for end in _leaf_ends(grammar, text, start)}


def _repeated(part: Grammar, text: str, starts: set[int], minimum: int, maximum: int | None) -> set[int]:
    for _ in range(minimum):
        starts = _ends(part, text, starts)
    found, new = set(starts), starts
    while new and (maximum is None or maximum > minimum):
        new = _ends(part, text, new) - found
        found |= new
        maximum = None if maximum is None else maximum - 1
    return found


def _leaf_ends(grammar: Grammar, text: str, start: int) -> Iterator[int]:
    match grammar:
        case LiteralText(exact):
            if text.startswith(exact, start):
                yield start + len(exact)
        case Pattern(regex):
            yield from (end for end in range(start, len(text) + 1) if re.fullmatch(regex, text[start:end]))
        case FreeText(excluding, not_matching):
            for end in range(start, len(text) + 1):
                piece = text[start:end]
                if not any(string in piece for string in excluding) and not _matches_any(not_matching, piece):
                    yield end
        case TextThrough():
            yield from _until(grammar, text, start)
        case JsonValue(schema):
            yield from _json_end(schema, text, start)
        case _:
            raise TypeError(f"grammars of type {type(grammar).__name__} are not supported")


def _until(until: TextThrough, text: str, start: int) -> Iterator[int]:
    for at in range(start, len(text)):
        found = [string for string in until.ends if text.startswith(string, at)]
        before = text[start:at]
        right = all(re.fullmatch(regex, before) for regex in until.matching)
        if found and right and not _matches_any(until.not_matching, before):
            yield from (at + len(string) for string in found)
            return


def _matches_any(regexes: Sequence[str], text: str) -> bool:
    return any(re.fullmatch(regex, text) for regex in regexes)


def _json_end(schema: Mapping[str, Any] | bool, text: str, start: int) -> Iterator[int]:
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return
    source = text[start:end]
    has_wrong_space = _WRONG_SPACE.search(_STRING.sub('""', source)) is not None
    has_wrong_escape = _WRONG_ESCAPE.search(source.replace("\\\\", "")) is not None
    if not has_wrong_space and not has_wrong_escape and conforms(value, schema, schema):
        yield end


def conforms(value: object, schema: object, root: object) -> bool:
    """Return whether a value conforms to a schema, with its properties in order; unknown keywords are ignored."""
    if not isinstance(schema, Mapping):
        return schema is not False
    if "$ref" in schema:
        return conforms(value, resolve_pointer(root, schema["$ref"]), root)
    if "anyOf" in schema and not any(conforms(value, choice, root) for choice in schema["anyOf"]):
        return False
    listed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if listed is not None and value not in listed:
        return False
    if "type" in schema and not _has_type(value, schema["type"]):
        return False
    if isinstance(value, list):
        return all(conforms(item, schema.get("items", True), root) for item in value)
    return not isinstance(value, dict) or _has_members(value, schema, root)


def _has_type(value: object, types: str | Sequence[str]) -> bool:
    names = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _has_members(value: Mapping[str, object], schema: Mapping[str, Any], root: object) -> bool:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    declared = [key for key in value if key in properties]
    return (
        set(schema.get("required", ())) <= value.keys()
        and declared == [key for key in properties if key in value]
        and all(conforms(member, properties.get(key, others), root) for key, member in value.items())
    )
