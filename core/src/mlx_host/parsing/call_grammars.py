"""Building blocks for the grammars of calls: names, parameters, alternatives of a type."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import Alternatives, Concat, Grammar, LiteralText, Repeat, TextThrough, chain, optional
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.schema_nodes import Function, Place, branches, members

# Small models that are forced to call do not stop by themselves.
MAX_CALLS = 16


def in_turn(call: Grammar, choice: ToolChoice, between: str = "") -> Grammar:
    """State a call, or several if the choice allows it."""
    return chain(call, Repeat(chain(between, call), 0, MAX_CALLS - 1)) if choice.parallel else call


def named(function: Function, name: re.Pattern[str]) -> str:
    """Return the name of a function for a format without quotes; UnsupportedRequestError unless `name` matches it."""
    return writable(function.name, name, function.name)


def writable(text: str, allowed: re.Pattern[str], tool: str) -> str:
    """Return a name or key unchanged; UnsupportedRequestError if the parser would not read it back."""
    if not allowed.fullmatch(text):
        raise UnsupportedRequestError(
            f"the tool {tool!r} cannot be forced or strict with this model: {text!r} cannot be written in "
            f"the format of its calls",
            param="tools",
        )
    return text


def parameters(
    function: Function,
    before: str,
    behind: str,
    key: re.Pattern[str],
    value: Callable[[Place], Grammar],
    *,
    escape: Callable[[str], str] = str,
    other_key: re.Pattern[str] | None = None,
    reserved: Sequence[str] = (),
) -> Grammar:
    """State arguments that follow each other without a separator: the declared ones in order, then any others.

    Each is `before`, the key as `escape` spells it, `behind`, and what `value` gives. `key` matches the keys that can
    be written. Undeclared keys match `other_key`, by default `key`, and are none of the `reserved` ones.
    """
    declared, others = members(function.parameters)
    parts: list[Grammar] = []
    for member in declared:
        written = escape(writable(member.key, key, function.name))
        part = chain(before + written + behind, value(member.place))
        parts.append(part if member.required else optional(part))
    if others is not None:
        known = [*(escape(member.key) for member in declared), *reserved]
        parts.append(Repeat(chain(before, undeclared(behind, known, other_key or key), value(others))))
    return Concat(tuple(parts))


def separated_parameters(
    place: Place, behind: str, key: re.Pattern[str], value: Callable[[Place], Grammar], separator: str
) -> Grammar:
    """State the members of an object with a separator between any two: the declared ones in order, then any others."""
    declared, others = members(place)
    parts = [
        (chain(writable(member.key, key, place.tool) + behind, value(member.place)), member.required)
        for member in declared
    ]
    more = None
    if others is not None:
        more = chain(undeclared(behind, [member.key for member in declared], key), value(others))
    return separated(parts, more, separator)


def undeclared(behind: str, declared: Sequence[str], key: re.Pattern[str]) -> Grammar:
    """State a key that is not among the `declared` ones, through the text `behind` it."""
    unless = ("|".join(map(re.escape, declared)),) if declared else ()
    # Python's \s includes these, llguidance's does not.
    return TextThrough((behind,), (key.pattern.replace(r"\s", r"\s\x1c-\x1f"),), unless)


def kinds(place: Place) -> tuple[list[Place], list[Place]]:
    """Split what a schema allows into strings and other values; for formats that mark which of the two a value is.

    The others are of one type each where the schema gives types.
    """
    place = place.resolved()
    types = place.types()
    if types and "string" not in types:
        return [], branches(place) if len(types) > 1 else [place]
    parts = branches(place)
    if types:
        return [part for part in parts if part.types() == {"string"}], [p for p in parts if p.types() != {"string"}]
    if any(not part.says() for part in parts):
        return [place.at({"type": "string"})], [place.at({})]
    return [], [place]


def separated(parts: Sequence[tuple[Grammar, bool]], more: Grammar | None, separator: str) -> Grammar:
    """State (part, required) pairs in order, then any number of `more`, with a separator between any two."""

    def following(rest: Sequence[tuple[Grammar, bool]]) -> list[Grammar]:
        last = [] if more is None else [Repeat(chain(separator, more))]
        return [chain(separator, part) if must else optional(separator, part) for part, must in rest] + last

    starts: list[Grammar] = []
    for n, (part, must) in enumerate(parts):
        starts.append(chain(part, *following(parts[n + 1 :])))
        if must:
            return Alternatives(tuple(starts))
    if more is not None:
        starts.append(chain(more, *following([])))
    return Alternatives((*starts, LiteralText("")))
