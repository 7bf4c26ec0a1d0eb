"""LFM2 and LFM2.5: calls as a list of Python calls with keywords and literals, nothing of which is ever evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing import (
    NAME,
    Call,
    Function,
    MarkupParser,
    NotACall,
    Parser,
    Place,
    Reading,
    Sample,
    Scanner,
    Schema,
    ToolChoice,
    functions,
    in_turn,
    json_object,
    kinds,
    literal_json,
    members,
    named,
    read_balanced,
    read_json,
    separated,
    undeclared,
    values,
    writable,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json

_END = "<|tool_call_end|>"
_QUOTES = ('"""', "'''", '"', "'")
_KEY = re.compile(f"{NAME.pattern[:-1]}+")
_WORD = re.compile(r"[\w.+-]*")


def _read_list(s: Scanner) -> Reading[None]:
    yield from s.space()
    listed = yield from s.optional("[")
    separator = ","
    while separator == ",":
        yield from s.space()
        call = yield from _read_call(s)
        yield from s.space()
        separator = (yield from s.optional(",", "]")) if listed else ""
        if isinstance(call, str):
            s.json_call(call)
        else:
            s.call(*call)
    yield from s.space()
    yield from s.optional(_END)


def _read_call(s: Scanner) -> Reading[tuple[str, str] | str]:
    """Read a name and its arguments, or a call as JSON, which the models write when asked to."""
    if (yield from s.lookahead("{")):
        return (yield from read_json(s))
    name = yield from s.name()
    schema = s.schema(name)
    yield from s.expect("(")
    arguments: dict[str, str] = {}
    separator = ","
    while separator == ",":
        yield from s.space()
        if (yield from s.optional(")")):
            break
        key = yield from s.name()
        yield from s.space()
        yield from s.expect("=")
        yield from s.space()
        arguments[key] = _typed((yield from _read_value(s)), schema.member(key))
        yield from s.space()
        separator = yield from s.expect(",", ")")
    return name, json_object(arguments)


def _read_value(s: Scanner) -> Reading[str]:
    mark = s.mark()
    start = yield from s.lookahead(*_QUOTES, "[", "{", "(")
    if start in _QUOTES:
        yield from s.expect(start)
        while (yield from s.until(start, "\\"))[1] != start:
            if not (yield from s.peek()):
                raise NotACall
            s.take(s.at + 1)
    elif start:
        yield from read_balanced(s)
    else:
        yield from s.run(_WORD)
    return s.since(mark)


def _typed(text: str, schema: Schema) -> str:
    """A literal says its type; a word that is none, such as 007, gets what the schema allows."""
    written = literal_json(text)
    if written is None and text.startswith(_QUOTES):
        # A line break in a string of one line, which Python does not allow.
        written = literal_json(text.replace("\r", "\\r").replace("\n", "\\n"))
    if written is None and _WORD.fullmatch(text) and text:
        written = schema.json(text)
    if written is None:
        raise NotACall
    return written


def _call(function: Function) -> Grammar:
    declared, others = members(function.parameters)
    arguments = [
        (chain(f"{writable(member.key, _KEY, function.name)}=", _value(member.place)), member.required)
        for member in declared
    ]
    more = None
    if others is not None:
        more = chain(undeclared("=", [member.key for member in declared], _KEY), _value(others))
    return chain(f"{named(function, _KEY)}(", separated(arguments, more, ", "), ")")


def _value(place: Place) -> Grammar:
    """Literals as Python writes them, but for true, false and null within lists and dictionaries."""
    texts, others = kinds(place)
    return one_of(*(part.json() for part in texts), *(_literal(part) for part in others))


def _literal(part: Place) -> Grammar:
    if (listed := values(part)) is not None:
        return one_of(*map(repr, listed))
    if part.types() == {"null"}:
        return chain("None")
    return one_of("True", "False") if part.types() == {"boolean"} else part.json()


def _written(*calls: tuple[str, dict[str, Any]]) -> str:
    listed = (
        f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})" for name, arguments in calls
    )
    return f"<|tool_call_start|>[{', '.join(listed)}]<|tool_call_end|>"


def _list(text: str) -> str:
    return f"<|tool_call_start|>[{text}]<|tool_call_end|>"


class Lfm2Parser(MarkupParser):
    name = "lfm2"
    aliases = ("lfm2_5", "lfm")
    reads = "calls of LFM2 and LFM2.5 as Python, reasoning in <think>"
    templates = (("<|tool_list_start|>",), ("<|tool_call_start|>",), ("List of tools: [",))
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|im_end|>", "<|endoftext|>")
    calls = (Call("<|tool_call_start|>", _read_list),)
    syntax = (_END,)
    samples = (
        Sample("answer", "It is [cold].\n", content="It is [cold].\n", tools=TOOLS),
        Sample("call", f"{_written(OSLO)}I look.<|im_end|>", content="I look.", calls=(OSLO,), tools=TOOLS),
        Sample(
            "thinking, text and parallel calls",
            f"<think>\nCold?\n</think>\n\nI look.\n{_written(OSLO, ROME)}",
            content="I look.\n",
            reasoning="Cold?",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "double quotes", _list('get_weather(city="Rome", days=3), now()'), calls=(ROME, ("now", {})), tools=TOOLS
        ),
        Sample("literals of every type", _written(LIGHT, WRITE), calls=(LIGHT, WRITE), tools=TOOLS),
        Sample(
            "JSON's words, dots in a name, keywords as keys, layout",
            _list(
                "\n  Home.set-light( on = true , level=null, rooms=['a', true,], scene=(1, -2.50e1) ),\n  f(from=1)\n"
            ),
            calls=(
                ("Home.set-light", {"on": True, "level": None, "rooms": ["a", True], "scene": [1, -25.0]}),
                ("f", {"from": 1}),
            ),
            tools=TOOLS,
        ),
        Sample(
            "brackets, quotes and the closer in strings",
            _list("""f(a="])<|tool_call_end|>'", b=')"\\'', c=['a"]', {"k": "}"}], d="", e='''it's\n"x"''')"""),
            calls=(
                ("f", {"a": "])<|tool_call_end|>'", "b": ")\"'", "c": ['a"]', {"k": "}"}], "d": "", "e": 'it\'s\n"x"'}),
            ),
            tools=TOOLS,
        ),
        Sample(
            "escapes, and a line break as it is",
            _list('write_file(path="\\u00e9\\n", text="a\n\tb\\\\")'),
            calls=(("write_file", {"path": "é\n", "text": "a\n\tb\\"}),),
            tools=TOOLS,
        ),
        Sample(
            "words that are no literals",
            _list("get_weather(city=007, days=3), f(a=007, b=x)"),
            calls=(("get_weather", {"city": "007", "days": 3}), ("f", {"a": "007", "b": "x"})),
            tools=TOOLS,
        ),
        Sample("no arguments", _list("now()") + _list("now( )"), calls=(("now", {}),) * 2, tools=TOOLS),
        Sample(
            "JSON in place of Python",
            _list('{"name": "get_weather", "arguments": {"city": "Oslo"}}, {"name": "now"}'),
            calls=(OSLO, ("now", {})),
            tools=TOOLS,
        ),
        Sample("without brackets", "<|tool_call_start|>now() <|tool_call_end|>", calls=(("now", {}),), tools=TOOLS),
        Sample("the closer missing", _written(OSLO).removesuffix(_END), calls=(OSLO,), tools=TOOLS),
        Sample(
            "thinking never closed before the call",
            f"<think>Cold? {_written(OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"<think>Maybe {_written(OSLO)}</think>It is cold.",
            content="It is cold.",
            reasoning=f"Maybe {_written(OSLO)}",
            tools=TOOLS,
        ),
        Sample(
            "cut off in the second call",
            _written(OSLO, ROME)[:70],
            content=" get_weather(city='Rome',",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "code is not run",
            _list("now(a=1 + 1)") + _list("f(a=open('x'))") + _list("f(*a)") + _list("f('x')") + _written(OSLO),
            content=_list("now(a=1 + 1)") + _list("f(a=open('x'))") + _list("f(*a)") + _list("f('x')"),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no tools in the request", _written(OSLO), content=_written(OSLO)),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        calls = in_turn(one_of(*map(_call, functions(tools))), choice, ", ")
        return chain(f"{self.calls[0].opener}[", calls, f"]{_END}")


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [Lfm2Parser]
