"""The grammars of calls in notations that several families share, for Parser.grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlx_host.errors import UnsupportedRequest
from mlx_host.grammar import Chain, Exact, Grammar, OneOf, Repeated, TextUntil, chain, one_of, optional
from mlx_host.parsing.parser import ToolChoice
from mlx_host.parsing.schema_nodes import Function, Place, branches, functions, members
from mlx_host.parsing.unquoted_values import BareText
from mlx_host.requests import Json

# Small models that must call go on calling; nobody waits for more at once.
MOST_CALLS = 16


def in_turn(call: Grammar, choice: ToolChoice, between: str = "") -> Grammar:
    """A call, or several where the choice allows it."""
    return chain(call, Repeated(chain(between, call), 0, MOST_CALLS - 1)) if choice.parallel else call


def json_object_call(function: Function, arguments: str = "arguments") -> Grammar:
    """`{"name": …, "arguments": {…}}` as json.dumps lays it out."""
    return chain(json_object_members(function, arguments), "}")


def json_object_members(function: Function, arguments: str = "arguments") -> Grammar:
    """The same up to the last brace, where a family writes an id, too.

    In the pieces that JSON is read in, beside which there may be other JSON: the lexer goes for the longest text.
    """
    name = json.dumps(function.name, ensure_ascii=False)
    return chain("{", '"name"', ": ", name, ", ", f'"{arguments}"', ": ", function.json())


def json_object_calls(tools: Iterable[Json], arguments: str = "arguments") -> Grammar:
    """One such call to any of the tools."""
    return one_of(*(json_object_call(function, arguments) for function in functions(tools)))


def named(function: Function, name: re.Pattern[str]) -> str:
    """The name of a function, in a format that writes it bare and reads no other than `name` matches."""
    return writable(function.name, name, function.name)


def writable(text: str, allowed: re.Pattern[str], tool: str) -> str:
    """A name or key as it stands in a call; UnsupportedRequest if it would not be read back."""
    if not allowed.fullmatch(text):
        raise UnsupportedRequest(
            f"the tool {tool!r} cannot be forced or strict with this model: {text!r} cannot be written in "
            f"the format of its calls",
            param="tools",
        )
    return text


@dataclass(frozen=True)
class Tags:
    """Arguments each in a tag of their own: `before`, the key, `behind`, the value, its closer, `after`.

    The values are bare text, typed by the schema. `key` is what the reader takes for one; `gap` stands before each.
    """

    before: str
    behind: str
    values: BareText
    after: str
    key: re.Pattern[str]

    def arguments(self, function: Function) -> Grammar:
        """All arguments of a call, the required ones and any of the others."""
        declared, others = members(function.parameters)
        parts: list[Grammar] = []
        for member in declared:
            key = writable(member.key, self.key, function.name)
            tag = chain(self.before + key + self.behind, self.values.value(member.place), self.after)
            parts.append(tag if member.required else optional(tag))
        if others is not None:
            other = undeclared(self.behind, [member.key for member in declared], self.key)
            parts.append(Repeated(chain(self.before, other, self.values.value(others), self.after)))
        return Chain(tuple(parts))


def undeclared(behind: str, declared: Sequence[str], key: re.Pattern[str]) -> Grammar:
    """A key that is none of those declared, up to and with what stands behind it."""
    unless = ("|".join(map(re.escape, declared)),) if declared else ()
    # For Python these are white space, too.
    return TextUntil((behind,), (key.pattern.replace(r"\s", r"\s\x1c-\x1f"),), unless)


def kinds(place: Place) -> tuple[list[Place], list[Place]]:
    """The strings that a place allows, and all else, of one type each where it says; for formats that tell them."""
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
    """Parts in order with a separator between any two; each says whether it must be there, `more` may follow."""

    def following(rest: Sequence[tuple[Grammar, bool]]) -> list[Grammar]:
        last = [] if more is None else [Repeated(chain(separator, more))]
        return [chain(separator, part) if must else optional(separator, part) for part, must in rest] + last

    starts: list[Grammar] = []
    for n, (part, must) in enumerate(parts):
        starts.append(chain(part, *following(parts[n + 1 :])))
        if must:
            return OneOf(tuple(starts))
    if more is not None:
        starts.append(chain(more, *following([])))
    return OneOf((*starts, Exact("")))


_IN_TAG = re.compile(r"[^<>\s]+")
_PARAMETERS = Tags("<parameter=", ">\n", BareText("</parameter>", pad="\n"), "\n", _IN_TAG)


def function_xml_calls(tools: Iterable[Json]) -> Grammar:
    """What the reader of `function_xml` reads: one call to any of the tools, a line for each tag and each value."""
    return one_of(
        *(
            chain(f"<function={named(function, _IN_TAG)}>\n", _PARAMETERS.arguments(function), "</function>")
            for function in functions(tools)
        )
    )
