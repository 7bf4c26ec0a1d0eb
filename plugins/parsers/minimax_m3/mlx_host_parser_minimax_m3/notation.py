"""MiniMax-M3's notation of a call: elements whose every tag has a token in front.

A call's parameters are elements named after them. An object's members are elements within, an array's items elements
called `item`, or several elements of one name. That leaves the types to the tool's schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, Repeat, TextThrough, chain, one_of, optional
from mlx_host.parsing import (
    DEEPEST,
    BareText,
    Function,
    Member,
    NotACall,
    Notation,
    Place,
    Reading,
    Scanner,
    Schema,
    ToolChoice,
    branches,
    json_object,
    members,
    named,
    typed_value,
    values,
    writable,
)

NS = "]<]minimax[>["
INVOKE = f'{NS}<invoke name="'

_KEY = re.compile(r'[^<>/"\s]+')
_TAG_NAME = re.compile(r"[^<>/\s]*")

# The content of an element: text, or elements.
Inside = str | list[tuple[str, "Inside"]]


@dataclass(frozen=True)
class MiniMaxM3Call(Notation):
    """One call as an `invoke` element; the token in front of its first tag may be missing."""

    @property
    def begins(self) -> tuple[str, ...]:
        return INVOKE, INVOKE.removeprefix(NS)

    def read(self, s: Scanner, *closers: str) -> Reading[None]:
        yield from s.expect(*self.begins)
        name, _ = yield from s.until('">')
        schema = s.schema(name)
        yield from s.space()
        yield from s.expect(NS)
        s.call(name, _object((yield from _read_children(s, "invoke", schema, 1)), schema))

    def grammar(self, function: Function, choice: ToolChoice) -> Grammar:
        opener = f'{INVOKE}{named(function, _KEY)}">\n'
        declared, others = members(function.parameters)
        if others is not None:
            # A grammar cannot state that a tag of any name is closed by the same name.
            if choice.required or declared:
                function.parameters.refuse("additionalProperties")
            return chain(opener, TextThrough((f"{NS}</invoke>",)), "\n")
        return chain(opener, *(_member(member, "\n") for member in declared), f"{NS}</invoke>\n")

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return self.write_elements(name, *arguments.items())

    def write_elements(self, name: str, *elements: tuple[str, object]) -> str:
        """Write a call with elements of any names, equal ones included."""
        inner = "".join(f"{_element(key, value)}\n" for key, value in elements)
        return f'{INVOKE}{name}">\n{inner}{NS}</invoke>\n'


def _element(tag: str, value: object) -> str:
    if isinstance(value, dict):
        inner = "".join(_element(key, member) for key, member in value.items())
    elif isinstance(value, list):
        inner = "".join(_element("item", item) for item in value)
    else:
        inner = value if isinstance(value, str) else json.dumps(value)
    return f"{NS}<{tag}>{inner}{NS}</{tag}>"


def _read_element(s: Scanner, tag: str, schema: Schema, depth: int) -> Reading[Inside]:
    """Read from behind an opening tag through the closing one; return what stands between."""
    if schema.types() == {"string"}:
        text, _ = yield from s.until(f"{NS}</{tag}>")
        return text
    text = yield from typed_value(s, schema, NS)
    children = yield from _read_children(s, tag, schema, depth)
    if children and not text.isspace() and text:
        raise NotACall
    return children or text


def _read_children(s: Scanner, tag: str, schema: Schema, depth: int) -> Reading[list[tuple[str, Inside]]]:
    """Read from behind the token of the next tag, which is a child's or the one that closes `tag`."""
    if depth > DEEPEST:
        raise NotACall
    children: list[tuple[str, Inside]] = []
    while (yield from s.expect("<", f"</{tag}>")) == "<":
        child = yield from s.run(_TAG_NAME)
        if not child:
            raise NotACall
        yield from s.expect(">")
        inner = schema.item() if _is_item(child, schema) else schema.member(child)
        children.append((child, (yield from _read_element(s, child, inner, depth + 1))))
        yield from s.space()
        yield from s.expect(NS)
    return children


def _is_item(tag: str, schema: Schema) -> bool:
    return tag == "item" and tag not in schema.members()


def _object(children: Iterable[tuple[str, Inside]], schema: Schema) -> str:
    members: dict[str, list[Inside]] = {}
    for tag, inside in children:
        members.setdefault(tag, []).append(inside)
    return json_object({tag: _json(found, schema.member(tag)) for tag, found in members.items()})


def _array(items: Iterable[Inside], schema: Schema) -> str:
    return "[" + ", ".join(_json([item], schema.item()) for item in items) + "]"


def _json(found: Sequence[Inside], schema: Schema) -> str:
    """Return the JSON of the elements found under one name; of the last one where there can be only one."""
    types = schema.types()
    if len(found) > 1 and ("array" in types or not types):
        return _array(found, schema)
    inside = found[-1]
    if isinstance(inside, list):
        if all(_is_item(tag, schema) for tag, _ in inside):
            return _array((item for _, item in inside), schema)
        return _array(found, schema) if types == {"array"} else _object(inside, schema)
    if "string" not in types and not inside.strip() and types & {"array", "object"}:
        return "[]" if "array" in types else "{}"
    text = schema.json(inside)
    if "array" in types and "string" not in types and text.startswith('"'):
        return _array(found, schema)
    return text


def _member(member: Member, newline: str) -> Grammar:
    key = writable(member.key, _KEY, member.place.tool)
    element = chain(f"{NS}<{key}>", _value_grammar(member.place, f"</{key}>{newline}"))
    return element if member.required else optional(element)


def _value_grammar(place: Place, closing: str) -> Grammar:
    """State the content of an element, and the tag that closes it."""
    place = place.resolved()
    types = place.types()
    if not types & {"array", "object"}:
        return chain(BareText(NS).value(place), closing)
    parts = branches(place)
    containers = [part for part in parts if part.types() & {"array", "object"}]
    if len(containers) > 1 or values(containers[0]) is not None:
        place.refuse(min(place.says() - {"type"}, default="type"))
    texts = [BareText(NS).text(part, r"{\[") for part in parts if part.types() == {"string"}]
    plain = [chain(grammar, closing) for grammar in texts]
    others = [chain(part.json(), NS + closing) for part in parts if not part.types() & {"array", "object", "string"}]
    return one_of(_container(containers[0], closing, empty=not texts), *plain, *others)


def _container(place: Place, closing: str, *, empty: bool) -> Grammar:
    """State an object or array as elements, or as JSON if it may have members of any name.

    The token and the rest of a tag are one text, since the lexer takes the longest match.
    """
    node = place.node
    if place.types() == {"object"}:
        declared, others = members(place)
        if others is not None:
            return chain(place.json(), NS + closing)
        return chain(*(_member(member, "") for member in declared), NS + closing)
    for keyword in ("prefixItems", "contains", "uniqueItems"):
        if keyword in node:
            place.refuse(keyword)
    item = chain(f"{NS}<item>", _value_grammar(place.at(node.get("items", {})), "</item>"))
    return chain(Repeat(item, max(node.get("minItems", 0), 0 if empty else 1), node.get("maxItems")), NS + closing)
