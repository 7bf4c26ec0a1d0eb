"""MiniMax-M3: calls as elements whose every tag has a token in front, reasoning in `<mm:think>`.

A call's parameters are elements named after them. An object's members are elements within, an array's items elements
called `item`, or several elements of one name. That leaves the types to the tool's schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, Repeated, TextUntil, chain, one_of, optional
from mlx_host.parsing import (
    DEEPEST,
    BareText,
    Call,
    Function,
    MarkupParser,
    Member,
    NotACall,
    Parser,
    Place,
    Reading,
    Sample,
    Scanner,
    Schema,
    ToolChoice,
    branches,
    functions,
    in_turn,
    json_object,
    members,
    named,
    typed_value,
    values,
    writable,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json

NS = "]<]minimax[>["

_INVOKE = (f'{NS}<invoke name="', '<invoke name="')
_CLOSE = (f"{NS}</tool_call>", "</tool_call>")
_KEY = re.compile(r'[^<>/"\s]+')
_TAG_NAME = re.compile(r"[^<>/\s]*")

# What stands in an element: text, or elements.
Inside = str | list[tuple[str, "Inside"]]


def _read_block(s: Scanner) -> Reading[None]:
    yield from s.space()
    if not (yield from s.lookahead(*_INVOKE)):
        raise NotACall
    while (yield from s.lookahead(*_INVOKE)):
        yield from _read_invoke(s)
        yield from s.space()
    yield from s.optional(*_CLOSE)


def _read_invoke(s: Scanner) -> Reading[None]:
    yield from s.expect(*_INVOKE)
    name, _ = yield from s.until('">')
    schema = s.schema(name)
    yield from s.space()
    yield from s.expect(NS)
    s.call(name, _object((yield from _read_children(s, "invoke", schema, 1)), schema))


def _read_element(s: Scanner, tag: str, schema: Schema, depth: int) -> Reading[Inside]:
    """Read what stands behind an opening tag, through the closing one."""
    if schema.types() == {"string"}:
        text, _ = yield from s.until(f"{NS}</{tag}>")
        return text
    text = yield from typed_value(s, schema, NS)
    children = yield from _read_children(s, tag, schema, depth)
    if children and not text.isspace() and text:
        raise NotACall
    return children or text


def _read_children(s: Scanner, tag: str, schema: Schema, depth: int) -> Reading[list[tuple[str, Inside]]]:
    """Read from behind the token of the next tag, be it a child's or the one that closes `tag`."""
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
    """Write the elements that were found under one name; where only one can be meant, the last."""
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


def _invoke_grammar(function: Function, choice: ToolChoice) -> Grammar:
    opener = f'{_INVOKE[0]}{named(function, _KEY)}">\n'
    declared, others = members(function.parameters)
    if others is not None:
        # A grammar cannot see that a tag of any name is closed by the same name.
        if choice.required or declared:
            function.parameters.refuse("additionalProperties")
        return chain(opener, TextUntil((f"{NS}</invoke>",)), "\n")
    parts = [_member(member, "\n") for member in declared]
    return chain(opener, *parts, f"{NS}</invoke>\n")


def _member(member: Member, newline: str) -> Grammar:
    key = writable(member.key, _KEY, member.place.tool)
    element = chain(f"{NS}<{key}>", _value_grammar(member.place, f"</{key}>{newline}"))
    return element if member.required else optional(element)


def _value_grammar(place: Place, closing: str) -> Grammar:
    """What stands in an element, and the tag that closes it."""
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
    """An object or array as elements; one that holds members of any name as JSON.

    The token and the rest of a tag are one text, since the lexer takes the longest that a text may be.
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
    return chain(Repeated(item, max(node.get("minItems", 0), 0 if empty else 1), node.get("maxItems")), NS + closing)


def _element(tag: str, value: Any) -> str:
    if isinstance(value, dict):
        value = "".join(_element(key, inner) for key, inner in value.items())
    elif isinstance(value, list):
        value = "".join(_element("item", inner) for inner in value)
    elif value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    return f"{NS}<{tag}>{value}{NS}</{tag}>"


def _invoke(call: tuple[str, dict[str, Any]]) -> str:
    name, arguments = call
    return _elements(name, *arguments.items())


def _elements(name: str, *elements: tuple[str, Any]) -> str:
    inner = "".join(_element(key, value) + "\n" for key, value in elements)
    return f'{NS}<invoke name="{name}">\n{inner}{NS}</invoke>\n'


def _block(*invokes: str) -> str:
    return f"{NS}<tool_call>\n{''.join(invokes)}{NS}</tool_call>"


CALL_OSLO = _invoke(OSLO)
MAIL = {
    "type": "function",
    "function": {
        "name": "mail",
        "parameters": {
            "type": "object",
            "properties": {
                "to": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}},
                "cc": {"type": ["array", "null"], "items": {"type": "string"}},
                "item": {"type": "object", "properties": {"item": {"type": "string"}}},
            },
        },
    },
}


class MiniMaxM3Parser(MarkupParser):
    name = "minimax_m3"
    reads = "calls of MiniMax-M3, reasoning in <mm:think>"
    templates = ((NS, "<tool_call>", "invoke name="), (NS, "mm:think"))
    think_open = ("<mm:think>",)
    think_close = ("</mm:think>",)
    noise = ("[e~[",)
    calls = (
        Call(f"{NS}<tool_call>", _read_block),
        Call("<tool_call>", _read_block),
        Call(_INVOKE[0], _read_block, inclusive=True),
    )
    syntax = _CLOSE
    samples = (
        Sample("answer", "It is cold.\n", content="It is cold.\n", tools=TOOLS),
        Sample(
            "thinking, then two calls in one block",
            f"<mm:think>\nCold?\n</mm:think>\n\n{_block(CALL_OSLO, _invoke(ROME))}[e~[",
            reasoning="Cold?",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "thinking opened by the prompt",
            "Cold?</mm:think>It is cold.",
            content="It is cold.",
            reasoning="Cold?",
            prompt_tail="<mm:think>",
        ),
        Sample(
            "a closer although thinking is off",
            "</mm:think>\nIt is cold.",
            content="It is cold.",
            prompt_tail="<mm:think></mm:think>",
        ),
        Sample(
            "text before and after the block",
            f"I look.{_block(CALL_OSLO)}\nSo.",
            content="I look.\nSo.",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("values of every type, nested", _block(_invoke(LIGHT)), calls=(LIGHT,), tools=TOOLS),
        Sample("text that looks like markup and numbers", _block(_invoke(WRITE)), calls=(WRITE,), tools=TOOLS),
        Sample(
            "tags in a string",
            _block(_invoke(("write_file", {"text": f"\n{NS}<a>{NS}</invoke> \n"}))),
            calls=(("write_file", {"text": f"\n{NS}<a>{NS}</invoke> \n"}),),
            tools=TOOLS,
        ),
        Sample("no parameters", _block(_invoke(("now", {}))), calls=(("now", {}),), tools=TOOLS),
        Sample(
            "types without a schema",
            _block(_invoke(("f", {"a": "x", "b": 7, "c": [1, {"d": [True]}], "e": {"g": None}}))),
            calls=(("f", {"a": "x", "b": 7, "c": [1, {"d": [True]}], "e": {"g": None}}),),
            tools=TOOLS,
        ),
        Sample(
            "arrays as several elements of one name, and of one",
            _block(
                _elements("mail", ("to", {"id": 1}), ("to", {"id": 2}), ("cc", "7")),
                _elements("mail", ("to", {"id": 1}), ("cc", None)),
            ),
            calls=(
                ("mail", {"to": [{"id": 1}, {"id": 2}], "cc": ["7"]}),
                ("mail", {"to": [{"id": 1}], "cc": None}),
            ),
            tools=(MAIL,),
        ),
        Sample(
            "empty containers, JSON in an element, a member called item",
            _block(
                _elements("mail", ("to", []), ("item", {})),
                _elements("mail", ("to", '[{"id": 1}]'), ("item", {"item": "7"})),
            ),
            calls=(("mail", {"to": [], "item": {}}), ("mail", {"to": [{"id": 1}], "item": {"item": "7"}})),
            tools=(MAIL,),
        ),
        Sample(
            "the first token and the newlines missing",
            _block(CALL_OSLO).removeprefix(NS).replace("\n", ""),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("the block's tags missing", f"So: {CALL_OSLO}", content="So: ", calls=(OSLO,), tools=TOOLS),
        Sample(
            "thinking never closed before the call",
            f"Cold?\n{_block(CALL_OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<mm:think>",
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"Maybe {_block(CALL_OSLO)}.</mm:think>It is cold.",
            content="It is cold.",
            reasoning=f"Maybe {_block(CALL_OSLO)}.",
            prompt_tail="<mm:think>",
            tools=TOOLS,
        ),
        Sample(
            "cut off in the second call",
            _block(CALL_OSLO, _invoke(ROME))[:210],
            content=_block(CALL_OSLO, _invoke(ROME))[len(f"{NS}<tool_call>\n{CALL_OSLO}") - 1 : 210],
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "malformed beside a good one",
            f"<tool_call>now()</tool_call>{_block(CALL_OSLO)}",
            content="<tool_call>now()</tool_call>",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "text and elements mixed",
            _block(f'{NS}<invoke name="f">{NS}<a>x{NS}<b>1{NS}</b>{NS}</a>{NS}</invoke>'),
            content=_block(f'{NS}<invoke name="f">{NS}<a>x{NS}<b>1{NS}</b>{NS}</a>{NS}</invoke>'),
            tools=TOOLS,
        ),
        Sample("no tools in the request", _block(CALL_OSLO), content=_block(CALL_OSLO)),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        invokes = one_of(*(_invoke_grammar(function, choice) for function in functions(tools)))
        return chain(f"{NS}<tool_call>\n", in_turn(invokes, choice), _CLOSE[0])


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [MiniMaxM3Parser]
