"""MiniMax-M3's notation of a call: elements with a token before each tag.

Parameters and the members of objects are elements with their names; the items of an array are elements named `item`, or
several elements with the array's name. Values are typed by the tool's schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.grammar import Grammar, Repeat, TextThrough, chain, one_of, optional
from mlx_host.parsing import (
    MAX_DEPTH,
    CallSyntaxError,
    Notation,
    Property,
    ScanGenerator,
    Scanner,
    Schema,
    SchemaNode,
    ToolChoice,
    ToolFunction,
    UnquotedValue,
    alternatives,
    at_natural_end,
    check_function_name,
    check_key,
    enum_values,
    json_object,
    object_properties,
    read_typed_value,
)

NS = "]<]minimax[>["
INVOKE = f'{NS}<invoke name="'

_KEY = re.compile(r'[^<>/"\s]+')
_TAG_NAME = re.compile(r"[^<>/\s]*")

# The content of an element: text or child elements.
ElementContent = str | list[tuple[str, "ElementContent"]]


@dataclass(frozen=True)
class MiniMaxM3Call(Notation):
    """One call as an `invoke` element; the token before its first tag may be missing."""

    @property
    def starts(self) -> tuple[str, ...]:
        return INVOKE, INVOKE.removeprefix(NS)

    def read(self, s: Scanner, *closers: str) -> ScanGenerator[None]:
        yield from s.expect(*self.starts)
        name, _ = yield from s.until('">')
        schema = s.schema(name)
        s.stream.begin(name)
        first = yield from _read_first_element(s, schema)
        elements: list[tuple[str, ElementContent]] = []
        streams = all(_stream(s, tag, content, schema) for tag, content in first)
        if not (first and (yield from _is_end(s, closers))):
            yield from s.expect(NS)
            elements = yield from _read_children(s, "invoke", schema, 1, closers, streams=streams)
        s.emit_call(name, _object([*first, *elements], schema))

    def grammar(self, function: ToolFunction, choice: ToolChoice) -> Grammar:
        opener = f'{INVOKE}{check_function_name(function, _KEY)}">\n'
        declared, others = object_properties(function.parameters)
        if others is not None:
            # A grammar cannot express that a closing tag repeats the name of the opening tag.
            if choice.required or declared:
                function.parameters.reject("additionalProperties")
            return chain(opener, TextThrough((f"{NS}</invoke>",)), "\n")
        return chain(opener, *(_member(member, "\n") for member in declared), f"{NS}</invoke>\n")

    def write(self, name: str, arguments: Mapping[str, Any], number: int = 0) -> str:
        return self.write_elements(name, *arguments.items())

    def write_elements(self, name: str, *elements: tuple[str, object]) -> str:
        """Write a call with elements of any names, which may repeat."""
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


def _read_first_element(s: Scanner, schema: Schema) -> ScanGenerator[list[tuple[str, ElementContent]]]:
    """Parse a first parameter whose opening tag is missing, if there is one, and whitespace after it."""
    mark = s.mark()
    yield from s.space()
    if (yield from s.lookahead(NS)):
        return []
    s.rewind(mark)
    text, _ = yield from s.until(NS)
    yield from s.expect("</")
    key = yield from s.take_while(_TAG_NAME)
    yield from s.expect(">")
    if key not in schema.members():
        raise CallSyntaxError
    yield from s.space()
    return [(key, text.removeprefix("\n"))]


def _is_end(s: Scanner, closers: tuple[str, ...]) -> ScanGenerator[bool]:
    """Return whether a call ends here without its closing tag: before `closers`, or at the end of the output."""
    end = f"{NS}</invoke>"
    if (yield from s.lookahead(*closers, end)) in closers:
        return bool(closers)
    if not (yield from at_natural_end(s, end)):
        return False
    yield from s.optional(end)
    return True


def _ends_value(s: Scanner, siblings: Collection[str], closers: tuple[str, ...]) -> ScanGenerator[bool]:
    """Return whether the tag after a token ends text whose closing tag is missing."""
    found = yield from s.lookahead(*(f"<{key}>" for key in siblings), "</invoke>")
    if found != "</invoke>":
        return bool(found)
    mark = s.mark()
    yield from s.expect(found)
    yield from s.space()
    ends = bool(closers and (yield from s.lookahead(*closers))) or (yield from at_natural_end(s, *closers))
    s.rewind(mark)
    return ends


def _read_element(
    s: Scanner,
    tag: str,
    schema: Schema,
    depth: int,
    siblings: Collection[str],
    closers: tuple[str, ...],
    *,
    streams: bool,
) -> ScanGenerator[ElementContent]:
    """Parse text after an opening tag through its closing tag; return the element's content.

    Of text, the closing tag may be missing before the opening tag of one of `siblings` or the end of the call. With
    `streams` a string is streamed as it grows.
    """
    if schema.types() == {"string"}:
        pieces: list[str] = []
        if streams:
            s.stream.text(tag)
        while True:
            start = s.mark()
            s.stream.resume()
            text, _ = yield from s.until(NS)
            s.stream.pause(without_last=True)
            pieces.append(text)
            if (yield from s.optional(f"</{tag}>")):
                return "".join(pieces)
            if (yield from _ends_value(s, siblings, closers)):
                s.rewind(start)
                s.take(s.pos + len(text))
                return "".join(pieces).removesuffix("\n")
            pieces.append(NS)
    text = yield from read_typed_value(s, schema, NS)
    children = yield from _read_children(s, tag, schema, depth)
    if children and not text.isspace() and text:
        raise CallSyntaxError
    return children or text


def _read_children(
    s: Scanner, tag: str, schema: Schema, depth: int, closers: tuple[str, ...] = (), *, streams: bool = False
) -> ScanGenerator[list[tuple[str, ElementContent]]]:
    """Parse child elements through the closing tag of `tag`, starting after the token of the next tag.

    At depth 1 the closing tag may be missing before `closers` and at the end of the output. With `streams` the elements
    are streamed as arguments, up to the first that depends on later ones.
    """
    if depth > MAX_DEPTH:
        raise CallSyntaxError
    children: list[tuple[str, ElementContent]] = []
    while (yield from s.expect("<", f"</{tag}>")) == "<":
        child = yield from s.take_while(_TAG_NAME)
        if not child:
            raise CallSyntaxError
        yield from s.expect(">")
        inner = schema.item() if _is_item(child, schema) else schema.member(child)
        siblings = schema.members() - {child, *(name for name, _ in children)} if depth == 1 else ()
        content = yield from _read_element(s, child, inner, depth + 1, siblings, closers, streams=streams)
        children.append((child, content))
        streams = streams and _stream(s, child, content, schema)
        yield from s.space()
        if depth == 1 and (yield from _is_end(s, closers)):
            break
        yield from s.expect(NS)
    return children


def _stream(s: Scanner, tag: str, content: ElementContent, schema: Schema) -> bool:
    """Stream an argument; return False if its value depends on later elements of the same name."""
    member = schema.member(tag)
    types = member.types()
    is_list = isinstance(content, list) and all(_is_item(name, member) for name, _ in content)
    if not is_list and (not types or "array" in types):
        return False
    s.stream.member(tag, _json([content], member))
    return True


def _is_item(tag: str, schema: Schema) -> bool:
    return tag == "item" and tag not in schema.members()


def _object(children: Iterable[tuple[str, ElementContent]], schema: Schema) -> str:
    members: dict[str, list[ElementContent]] = {}
    for tag, content in children:
        members.setdefault(tag, []).append(content)
    return json_object({tag: _json(found, schema.member(tag)) for tag, found in members.items()})


def _array(items: Iterable[ElementContent], schema: Schema) -> str:
    return "[" + ", ".join(_json([item], schema.item()) for item in items) + "]"


def _json(found: Sequence[ElementContent], schema: Schema) -> str:
    """Return the elements with one name as JSON: several as an array if the schema allows it, else the last one."""
    types = schema.types()
    if len(found) > 1 and ("array" in types or not types):
        return _array(found, schema)
    content = found[-1]
    if isinstance(content, list):
        if all(_is_item(tag, schema) for tag, _ in content):
            return _array((item for _, item in content), schema)
        return _array(found, schema) if types == {"array"} else _object(content, schema)
    if "string" not in types and not content.strip() and types & {"array", "object"}:
        return "[]" if "array" in types else "{}"
    text = schema.json(content)
    if "array" in types and "string" not in types and text.startswith('"'):
        return _array(found, schema)
    return text


def _member(member: Property, newline: str) -> Grammar:
    key = check_key(member.key, _KEY, member.node.tool)
    element = chain(f"{NS}<{key}>", _value_grammar(member.node, f"</{key}>{newline}"))
    return element if member.required else optional(element)


def _value_grammar(node: SchemaNode, closing: str) -> Grammar:
    """Return the grammar of an element's content and its closing tag."""
    node = node.resolved()
    types = node.types()
    if not types & {"array", "object"}:
        return chain(UnquotedValue(NS).value(node), closing)
    parts = alternatives(node)
    containers = [part for part in parts if part.types() & {"array", "object"}]
    if len(containers) > 1 or enum_values(containers[0]) is not None:
        node.reject(min(node.keywords() - {"type"}, default="type"))
    texts = [UnquotedValue(NS).text(part, r"{\[") for part in parts if part.types() == {"string"}]
    plain = [chain(grammar, closing) for grammar in texts]
    others = [chain(part.json(), NS + closing) for part in parts if not part.types() & {"array", "object", "string"}]
    return one_of(_container(containers[0], closing, empty=not texts), *plain, *others)


def _container(node: SchemaNode, closing: str, *, empty: bool) -> Grammar:
    """Return the grammar of an object or array as elements, or as JSON if undeclared members are allowed.

    The token and the rest of a tag are one literal, since the lexer takes the longest match.
    """
    raw = node.raw
    if node.types() == {"object"}:
        declared, others = object_properties(node)
        if others is not None:
            return chain(node.json(), NS + closing)
        return chain(*(_member(member, "") for member in declared), NS + closing)
    for keyword in ("prefixItems", "contains", "uniqueItems"):
        if keyword in raw:
            node.reject(keyword)
    item = chain(f"{NS}<item>", _value_grammar(node.subschema(raw.get("items", {})), "</item>"))
    return chain(Repeat(item, max(raw.get("minItems", 0), 0 if empty else 1), raw.get("maxItems")), NS + closing)
