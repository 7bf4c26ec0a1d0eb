"""Kimi K3: its XML of special tokens, with reasoning, answer and calls in an element each.

The answer begins inside the element that the prompt opened, `think` or `response`. An argument says itself whether its
value is bare text or JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import AnyText, Chain, Grammar, Pattern, Repeated, TextUntil, after, chain, one_of, optional
from mlx_host.parsing import (
    BareText,
    Call,
    Function,
    MarkupParser,
    NotACall,
    Parser,
    Place,
    Reading,
    Sample,
    Scanner,
    ToolChoice,
    functions,
    in_turn,
    is_json,
    json_object,
    json_string,
    kinds,
    members,
    named,
    object_members,
    read_json,
    undeclared,
    value_until,
    writable,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json

_SEP = "<|sep|>"
_CALL, _CALL_END = "<|open|>call ", "<|close|>call<|sep|>"
_ARGUMENT, _ARGUMENT_END = "<|open|>argument ", "<|close|>argument<|sep|>"
_JSON, _JSON_END = "<|open|>json", "<|close|>json<|sep|>"
_TOOLS, _TOOLS_END = "<|open|>tools<|sep|>", "<|close|>tools<|sep|>"
_THINK, _THINK_END = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
_RESPONSE, _RESPONSE_END = "<|open|>response<|sep|>", "<|close|>response<|sep|>"
_MESSAGE_CLOSE, _END = "<|close|>message<|sep|>", "<|end_of_msg|>"
_MESSAGE_END = _MESSAGE_CLOSE + _END

_TYPES = {"null", "boolean", "integer", "number", "object", "array"}

_KEY = re.compile(r"[^<>\n]+")
_PLAIN_KEY = re.compile(r'[^\s<>"&]+')
_INDEX = Pattern("[1-9][0-9]{0,2}")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


def _read_tools(s: Scanner) -> Reading[None]:
    calls = 0
    while True:
        yield from s.space()
        if not (yield from s.lookahead(_CALL)):
            break
        yield from _read_call(s)
        calls += 1
    if not calls:
        raise NotACall
    yield from s.optional(_TOOLS_END)


def _read_call(s: Scanner) -> Reading[None]:
    yield from s.expect(_CALL)
    name = (yield from _attributes(s)).get("tool", "")
    schema = s.schema(name)
    arguments: dict[str, str] = {}
    while True:
        yield from s.space()
        found = yield from s.expect(_ARGUMENT, _JSON, _CALL_END)
        if found == _CALL_END:
            break
        attributes = yield from _attributes(s)
        if found == _JSON:
            arguments |= object_members((yield from read_json(s, first="{")))
            yield from s.space()
            yield from s.expect(_JSON_END)
            yield from s.space()
            yield from s.optional(_CALL_END)
            break
        key = attributes.get("key", "")
        value = yield from value_until(s, _ARGUMENT_END, json="" if attributes.get("type") == "string" else '{["')
        if attributes.get("type") == "string":
            arguments[key] = json_string(value)
        else:
            arguments[key] = value.strip() if is_json(value) else schema.member(key).json(value)
    s.call(name, json_object(arguments))


def _attributes(s: Scanner) -> Reading[dict[str, str]]:
    written, _ = yield from s.until(_SEP)
    return {key: value.replace("&quot;", '"').replace("&amp;", "&") for key, value in _ATTRIBUTE.findall(written)}


def _call_grammar(function: Function) -> Grammar:
    declared, others = members(function.parameters)
    parts: list[Grammar] = []
    for member in declared:
        key = writable(member.key, _KEY, function.name)
        argument = chain(f'{_ARGUMENT}key="{_escaped(key)}" type=', _value_grammar(member.place))
        parts.append(argument if member.required else optional(argument))
    if others is not None:
        another = undeclared('" type=', [_escaped(member.key) for member in declared], _PLAIN_KEY)
        parts.append(Repeated(chain(f'{_ARGUMENT}key="', another, _value_grammar(others))))
    name = _escaped(named(function, _KEY))
    return chain(f'{_CALL}tool="{name}" index="', _INDEX, f'"{_SEP}', *parts, _CALL_END)


def _value_grammar(place: Place) -> Grammar:
    """What stands behind `type=`."""
    texts, others = kinds(place)
    strings = [chain(f'"string"{_SEP}', BareText(_ARGUMENT_END).strings(part)) for part in texts]
    typed = [(kind, part) for part in others for kind in sorted(part.types() or _TYPES - {"integer"})]
    values = [
        chain(f'"{"number" if kind == "integer" else kind}"{_SEP}', _of(part, kind).json(), _ARGUMENT_END)
        for kind, part in typed
    ]
    return one_of(*strings, *values)


def _of(place: Place, kind: str) -> Place:
    return place if place.types() else place.at({**place.node, "type": kind})


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;")


def _argument(key: str, type: str, value: str) -> str:
    return f'{_ARGUMENT}key="{key}" type="{type}"{_SEP}{value}{_ARGUMENT_END}'


def _element(name: str, *arguments: str, index: int = 1) -> str:
    return f'{_CALL}tool="{name}" index="{index}"{_SEP}{"".join(arguments)}{_CALL_END}'


def _json_element(call: tuple[str, dict[str, Any]]) -> str:
    return _element(call[0], f'{_JSON} type="object"{_SEP}{json.dumps(call[1])}{_JSON_END}')


def _tools(*calls: str) -> str:
    return f"{_TOOLS}{''.join(calls)}{_TOOLS_END}"


CALL_OSLO = _element("get_weather", _argument("city", "string", "Oslo"))
CALL_ROME = _element("get_weather", _argument("city", "string", "Rome"), _argument("days", "number", "3"), index=2)
CALL_LIGHT = _element(
    "set-light",
    _argument("level", "null", "null"),
    _argument("warmth", "number", "0.5"),
    _argument("on", "boolean", "true"),
    _argument("rooms", "array", '["hall", "7"]'),
    _argument("colour", "object", '{"red": 9007199254740993}'),
    _argument("scene", "string", "none"),
)
CALL_WRITE = _element("write_file", *(_argument(key, "string", value) for key, value in WRITE[1].items()))


class KimiK3Parser(MarkupParser):
    name = "kimi_k3"
    reads = "reasoning and calls of Kimi K3"
    templates = (("<|open|>",),)
    think_open = (_THINK,)
    # The answer and the calls end the thinking, too: the model forgets to close it.
    think_close = (_THINK_END, _RESPONSE)
    noise = (_RESPONSE_END, _MESSAGE_CLOSE, _END, "[EOS]")
    calls = (Call(_TOOLS, _read_tools), Call(_CALL, _read_tools, inclusive=True))
    syntax = (_TOOLS_END,)
    samples = (
        Sample(
            "thinking opened by the prompt, then an answer",
            f"Cold?{_THINK_END}{_RESPONSE}It is.{_RESPONSE_END}{_MESSAGE_END}",
            content="It is.",
            reasoning="Cold?",
            prompt_tail=_THINK,
        ),
        Sample(
            "thinking switched off",
            f"It is.\n{_RESPONSE_END}{_MESSAGE_END}",
            content="It is.\n",
            prompt_tail=_RESPONSE,
            tools=TOOLS,
        ),
        Sample("answer opened twice", f"{_RESPONSE}It is.", content="It is.", prompt_tail=_RESPONSE),
        Sample("thinking opened twice", f"{_THINK}Cold?{_THINK_END}", reasoning="Cold?", prompt_tail=_THINK),
        Sample("thinking cut off", "Cold? Let", reasoning="Cold? Let", prompt_tail=_THINK),
        Sample(
            "thinking that the answer ends",
            f"Cold?{_RESPONSE}It is.",
            content="It is.",
            reasoning="Cold?",
            prompt_tail=_THINK,
        ),
        Sample(
            "answer and parallel calls",
            f"Cold?{_THINK_END}{_RESPONSE}I look.{_RESPONSE_END}{_tools(CALL_OSLO, CALL_ROME)}{_MESSAGE_END}",
            content="I look.",
            reasoning="Cold?",
            calls=(OSLO, ROME),
            prompt_tail=_THINK,
            tools=TOOLS,
        ),
        Sample("values of every type", _tools(CALL_LIGHT), calls=(LIGHT,), prompt_tail=_RESPONSE, tools=TOOLS),
        Sample("text that looks like markup and numbers", _tools(CALL_WRITE), calls=(WRITE,), tools=TOOLS),
        Sample(
            "markers in a value",
            _tools(_element("f", _argument("a", "string", f"\n {_CALL_END}{_TOOLS_END}\n"))),
            calls=(("f", {"a": f"\n {_CALL_END}{_TOOLS_END}\n"}),),
            tools=TOOLS,
        ),
        Sample(
            "escaped attributes",
            _tools(_element("f&amp;g", _argument("a &amp;quot; &quot;b&quot;", "string", "&amp;"))),
            calls=(("f&g", {'a &quot; "b"': "&amp;"}),),
            tools=TOOLS,
        ),
        Sample(
            "values typed by the schema, since the argument does not say or is wrong",
            _tools(
                _element(
                    "set-light",
                    f'{_ARGUMENT}key="level"{_SEP}7{_ARGUMENT_END}',
                    _argument("on", "boolean", "True"),
                    _argument("scene", "object", "dusk"),
                )
            ),
            calls=(("set-light", {"level": 7, "on": True, "scene": "dusk"}),),
            tools=TOOLS,
        ),
        Sample("arguments as JSON", _tools(_json_element(ROME)), calls=(ROME,), tools=TOOLS),
        Sample("no arguments", _tools(_element("now"), _element("now")), calls=(("now", {}),) * 2, tools=TOOLS),
        Sample(
            "white space between elements",
            f"{_TOOLS}\n  {CALL_OSLO}\n  {CALL_ROME}\n{_TOOLS_END}\n",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "call in thinking that is never closed",
            f"Cold?{_tools(CALL_OSLO)}{_MESSAGE_END}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail=_THINK,
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"I could {CALL_ROME}.{_THINK_END}{_tools(CALL_OSLO)}",
            reasoning=f"I could {CALL_ROME}.",
            calls=(OSLO,),
            prompt_tail=_THINK,
            tools=TOOLS,
        ),
        Sample("section forgotten", f"I look.{CALL_OSLO}", content="I look.", calls=(OSLO,), tools=TOOLS),
        Sample("outer closer forgotten", _TOOLS + CALL_OSLO, calls=(OSLO,), tools=TOOLS),
        Sample("cut off", _tools(CALL_ROME)[:170], content=_tools(CALL_ROME)[:170], tools=TOOLS),
        Sample(
            "malformed call beside a good one",
            f"{_TOOLS}{_element('now', 'oops')}{CALL_OSLO}{_TOOLS_END}",
            content=f"{_TOOLS}{_element('now', 'oops')}",
            calls=(OSLO,),
            tools=TOOLS,
        ),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return chain(_TOOLS, in_turn(one_of(*map(_call_grammar, functions(tools))), choice), _TOOLS_END)

    def thinking(self) -> Grammar:
        """The answer proper is an element, too."""
        thoughts = chain(TextUntil((_THINK_END,)), optional(_RESPONSE))
        if self._opens_inside(self.prompt_tail):
            return thoughts
        return Chain() if _RESPONSE in self.prompt_tail else one_of(chain(_THINK, thoughts), optional(_RESPONSE))

    def constrained(self, calls: Grammar | None, form: Grammar | None, choice: ToolChoice) -> Grammar:
        """Calls stand behind the answer, and the message is closed."""
        told = None if form is None else chain(form, optional(_RESPONSE_END))
        called = chain(optional(_RESPONSE_END), calls or Chain())
        if calls is None:
            body = told or AnyText()
        elif choice.required:
            body = called
        elif told is None:
            free = chain(AnyText(without=self.openers), optional(_RESPONSE_END))
            before = TextUntil((_RESPONSE_END + _TOOLS, _TOOLS), unless=(f"(?s:.*){re.escape(_CALL)}(?s:.*)",))
            body = one_of(free, chain(before, after(calls, _TOOLS) or Chain()))
        else:
            body = one_of(called, told)
        return chain(self.thinking(), body, optional(_MESSAGE_CLOSE))


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [KimiK3Parser]
