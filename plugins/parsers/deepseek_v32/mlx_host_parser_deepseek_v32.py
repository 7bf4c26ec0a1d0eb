"""DeepSeek-V3.2: calls in DSML, its markup language, reasoning in `<think>`.

A block of calls is a tag `function_calls` around `invoke` elements; V4 calls that tag `tool_calls`, V4.1 `calls`, with
a space before the name of each tag. Models mix these up, misspell the block's tag, leave it out at long context and put
plain bars for the broad ones. The reader takes whatever has a complete `invoke` in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, Repeated, chain, one_of, optional
from mlx_host.parsing import (
    BareText,
    Call,
    Function,
    MarkupParser,
    Parser,
    Place,
    Reader,
    Reading,
    Sample,
    Scanner,
    Schema,
    ToolChoice,
    arguments_of,
    functions,
    in_turn,
    is_json,
    json_object,
    json_string,
    kinds,
    members,
    named,
    read_json,
    undeclared,
    value_until,
    writable,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json

BLOCKS = ("function_calls", "tool_calls", "calls")

_KEY = re.compile(r'[^\s<>"]+')
_HOLDERS = ("arguments", "input")
_BLOCK_NAME = re.compile(r"[ \w]*")


class _Tags:
    """The tags of one spelling of DSML, with and without the space before their names."""

    def __init__(self, mark: str) -> None:
        self.any = f"<{mark}"
        self.invoke = tuple(f"<{mark}{gap}invoke" for gap in ("", " "))
        self.parameter = tuple(f"<{mark}{gap}parameter" for gap in ("", " "))
        self.end_parameter = tuple(f"</{mark}{gap}parameter>" for gap in ("", " "))
        self.end_invoke = tuple(f"</{mark}{gap}invoke>" for gap in ("", " "))
        self.end_block = tuple(f"</{mark}{gap}{block}>" for block in BLOCKS for gap in ("", " "))
        self.closers = self.end_parameter + self.end_invoke + self.end_block


_SPELLINGS = (_Tags("｜DSML｜"), _Tags("|DSML|"))


def _block_reader(tags: _Tags) -> Reader:
    def read(s: Scanner) -> Reading[None]:
        while not (yield from s.lookahead(*tags.invoke)):
            yield from s.expect(tags.any)
            yield from s.run(_BLOCK_NAME)
            yield from s.expect(">")
            yield from s.space()
        while (yield from s.lookahead(*tags.invoke)):
            yield from _read_invoke(s, tags)
            yield from s.space()
        # Closers that have nothing to close turn up behind the last one.
        while (yield from s.optional(*tags.closers, *("\n" + closer for closer in tags.closers))):
            pass

    return read


def _read_invoke(s: Scanner, tags: _Tags) -> Reading[None]:
    yield from s.expect(*tags.invoke)
    name, rest = yield from _read_attributes(s)
    schema = s.schema(name)
    if rest == "/":
        s.call(name, "")
        return
    yield from s.space()
    ends = tags.end_invoke + tags.end_block
    if (yield from s.lookahead("{")):
        raw = yield from read_json(s, first="{")
        yield from s.space()
        yield from s.expect(*ends)
        s.call(name, raw)
        return
    arguments: dict[str, str] = {}
    while (yield from s.expect(*tags.parameter, *ends)) in tags.parameter:
        key, kind = yield from _read_attributes(s)
        value = yield from value_until(s, *tags.end_parameter, json="" if kind == 'string="true"' else '{["')
        arguments[key] = _typed(value, kind, schema.member(key))
        yield from s.space()
    s.call(name, _unwrapped(arguments, schema))


def _read_attributes(s: Scanner) -> Reading[tuple[str, str]]:
    """Read to the end of a tag; return the name and what stands behind it."""
    yield from s.space()
    yield from s.expect('name="')
    name, _ = yield from s.until('"')
    rest, _ = yield from s.until(">")
    return name, rest.strip()


def _typed(value: str, kind: str, schema: Schema) -> str:
    """The tag says whether the value is a string; where it does not, the schema does."""
    if kind == 'string="true"':
        return json_string(value)
    if kind == 'string="false"' and is_json(value):
        return value.strip()
    return schema.json(value)


def _unwrapped(arguments: dict[str, str], schema: Schema) -> str:
    """The models now and then put all arguments into one, which the function does not have."""
    known = schema.members()
    for key in _HOLDERS:
        if known and list(arguments) == [key] and key not in known and arguments[key] != "null":
            return arguments_of(arguments[key]) or json_object(arguments)
    return json_object(arguments)


def block_grammar(
    tools: Iterable[Json], choice: ToolChoice, block: str, *, gap: str = "", newline: str = "\n"
) -> Grammar:
    """Calls in a block of this name; `gap` stands before tag names, `newline` after tags."""
    invokes = one_of(*(_invoke_grammar(function, gap, newline) for function in functions(tools)))
    return chain(f"<｜DSML｜{gap}{block}>{newline}", in_turn(invokes, choice), f"</｜DSML｜{gap}{block}>")


def _invoke_grammar(function: Function, gap: str, newline: str) -> Grammar:
    declared, others = members(function.parameters)
    parts: list[Grammar] = []
    for member in declared:
        key = f'<｜DSML｜{gap}parameter name="{writable(member.key, _KEY, function.name)}" string='
        parameter = chain(key, _value_grammar(member.place, gap, newline))
        parts.append(parameter if member.required else optional(parameter))
    if others is not None:
        # One of these alone would be taken for what holds all arguments.
        key_of_another = undeclared('" string=', [*(member.key for member in declared), *_HOLDERS], _KEY)
        another = chain(f'<｜DSML｜{gap}parameter name="', key_of_another, _value_grammar(others, gap, newline))
        parts.append(Repeated(another))
    opener = f'<｜DSML｜{gap}invoke name="{named(function, _KEY)}">{newline}'
    return chain(opener, *parts, f"</｜DSML｜{gap}invoke>{newline}")


def _value_grammar(place: Place, gap: str, newline: str) -> Grammar:
    """What stands behind `string=`."""
    text = BareText(f"</｜DSML｜{gap}parameter>", variants=_SPELLINGS[0].end_parameter)
    texts, others = kinds(place)
    strings = [chain('"true">', text.strings(part), newline) for part in texts]
    return one_of(*strings, *(chain('"false">', part.json(), text.closer, newline) for part in others))


class DsmlParser(MarkupParser):
    """What all models that write DSML have in common."""

    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<｜end▁of▁sentence｜>",)
    calls = tuple(Call(tags.any, _block_reader(tags), inclusive=True) for tags in _SPELLINGS)
    syntax = tuple(closer for tags in _SPELLINGS for closer in tags.closers)


def written(call: tuple[str, dict[str, Any]], *, gap: str = "", newline: str = "\n") -> str:
    """Write a call as the models do; `gap` stands before tag names, `newline` after tags."""
    name, arguments = call
    text = f'<｜DSML｜{gap}invoke name="{name}">{newline}'
    for key, value in arguments.items():
        kind, raw = ("true", value) if isinstance(value, str) else ("false", json.dumps(value))
        text += f'<｜DSML｜{gap}parameter name="{key}" string="{kind}">{raw}</｜DSML｜{gap}parameter>{newline}'
    return f"{text}</｜DSML｜{gap}invoke>{newline}"


def _block(*calls: str) -> str:
    return f"<｜DSML｜function_calls>\n{''.join(calls)}</｜DSML｜function_calls>"


CALL_OSLO = written(OSLO)
CALL_ROME = written(ROME)
ODD = ("write_file", {"path": " 007\n", "text": '</｜DSML｜invoke></think> {"a": null}\n'})


class DeepSeekV32Parser(DsmlParser):
    name = "deepseek_v32"
    aliases = ("deepseekv32",)
    reads = "calls of DeepSeek-V3.2 in DSML, reasoning in <think>"
    templates = (("｜DSML｜", "function_calls", "invoke", "parameter"),)
    samples = (
        Sample("answer", "It is cold.\n", content="It is cold.\n", prompt_tail="<｜Assistant｜></think>", tools=TOOLS),
        Sample(
            "thinking, then two calls in one block",
            f"Cold?</think>\n\n{_block(CALL_OSLO, CALL_ROME)}<｜end▁of▁sentence｜>",
            reasoning="Cold?",
            calls=(OSLO, ROME),
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample(
            "text before, between and after blocks",
            f"I look.\n\n{_block(CALL_OSLO)}\nAnd\n{_block(CALL_ROME)}\nSo.",
            content="I look.\n\n\nAnd\n\nSo.",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample("values of every type", _block(written(LIGHT)), calls=(LIGHT,), tools=TOOLS),
        Sample(
            "strings verbatim, whatever they look like",
            _block(written(WRITE)),
            calls=(WRITE,),
            tools=TOOLS,
        ),
        Sample("space, closers and JSON in strings", _block(written(ODD)), calls=(ODD,), tools=TOOLS),
        Sample(
            "the tag types where there is no schema",
            _block(written(("f", {"a": "7", "b": 7, "c": [None], "d": {"e": 0.5}}))),
            calls=(("f", {"a": "7", "b": 7, "c": [None], "d": {"e": 0.5}}),),
            tools=TOOLS,
        ),
        Sample(
            "no string attribute, typed by the schema",
            _block(
                '<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city">7</｜DSML｜parameter>\n'
                '<｜DSML｜parameter name="days">7</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
            ),
            calls=(("get_weather", {"city": "7", "days": 7}),),
            tools=TOOLS,
        ),
        Sample(
            "called no string, but no JSON either",
            _block(
                '<｜DSML｜invoke name="set-light"><｜DSML｜parameter name="on" string="false">True</｜DSML｜parameter>'
                '<｜DSML｜parameter name="scene" string="false">warm</｜DSML｜parameter></｜DSML｜invoke>'
            ),
            calls=(("set-light", {"on": True, "scene": "warm"}),),
            tools=TOOLS,
        ),
        Sample(
            "no parameters",
            _block(written(("now", {})), '<｜DSML｜invoke name="now"/>'),
            calls=(("now", {}),) * 2,
            tools=TOOLS,
        ),
        Sample(
            "JSON within an invoke",
            _block('<｜DSML｜invoke name="get_weather">\n{"city": "Oslo"}\n</｜DSML｜invoke>\n'),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "all arguments in one that the function does not have",
            _block(
                written(("get_weather", {"arguments": '{"city": "Oslo"}'})),
                written(("get_weather", {"input": {"city": "Oslo"}})),
                written(("f", {"input": {"city": "Oslo"}})),
            ),
            calls=(OSLO, OSLO, ("f", {"input": {"city": "Oslo"}})),
            tools=TOOLS,
        ),
        Sample("the block's tags missing", f"So:\n{CALL_OSLO}", content="So:\n", calls=(OSLO,), tools=TOOLS),
        Sample(
            "the block's closer missing",
            _block(CALL_OSLO).removesuffix("</｜DSML｜function_calls>"),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "an invoke closed by the block's closer",
            _block(CALL_OSLO).replace("</｜DSML｜invoke>\n", ""),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "closers that close nothing",
            _block(CALL_OSLO) + "\n</｜DSML｜invoke>\n</｜DSML｜function_calls>\nDone.",
            content="\nDone.",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "V4's tag, V4.1's spaces, a tag misspelt, plain bars",
            _block(CALL_OSLO).replace("function_calls", "tool_calls")
            + f"<｜DSML｜ calls>{written(OSLO, gap=' ', newline='')}</｜DSML｜ calls>"
            + _block(CALL_OSLO).replace("<｜DSML｜function_calls", "<｜DSML｜functioncalls")
            + _block(CALL_OSLO).replace("｜", "|"),
            calls=(OSLO,) * 4,
            tools=TOOLS,
        ),
        Sample(
            "thinking never closed before the call",
            f"Cold?\n\n{_block(CALL_OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"Maybe {_block(CALL_OSLO)}.</think>It is cold.",
            content="It is cold.",
            reasoning=f"Maybe {_block(CALL_OSLO)}.",
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample(
            "markup talked about",
            'Write <｜DSML｜invoke name="now"> in <｜DSML｜function_calls>.',
            content='Write <｜DSML｜invoke name="now"> in <｜DSML｜function_calls>.',
            tools=TOOLS,
        ),
        Sample("cut off", _block(CALL_OSLO)[:90], content=_block(CALL_OSLO)[:90], tools=TOOLS),
        Sample(
            "malformed beside a good one",
            f"{_block('now()')}\n{_block(CALL_OSLO)}",
            content=f"{_block('now()')}\n",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no tools in the request", _block(CALL_OSLO), content=_block(CALL_OSLO)),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return block_grammar(tools, choice, "function_calls")


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [DeepSeekV32Parser]
