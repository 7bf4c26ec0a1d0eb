"""MiniMax-M2 to M2.7: reasoning in `<think>`, calls as `<invoke>` elements, several in one `<minimax:tool_call>`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing import (
    BareText,
    Call,
    MarkupParser,
    NotACall,
    Parser,
    Reading,
    Sample,
    Scanner,
    Tags,
    ToolChoice,
    functions,
    in_turn,
    json_object,
    named,
    typed_value,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, SCRIPT, TOOLS, WRITE
from mlx_host.requests import Json

_INVOKE, _PARAMETER, _CLOSE = '<invoke name="', '<parameter name="', "</minimax:tool_call>"
_KEY = re.compile(r'[^\s<>"]+')
_TAGS = Tags(_PARAMETER, '">', BareText("</parameter>", trimmed=True), "\n", _KEY)


def _read_block(s: Scanner) -> Reading[None]:
    calls = 0
    while True:
        yield from s.space()
        if not (yield from s.lookahead(_INVOKE)):
            break
        yield from _read_invoke(s)
        calls += 1
    if not calls:
        raise NotACall
    yield from s.optional(_CLOSE)


def _read_invoke(s: Scanner) -> Reading[None]:
    yield from s.expect(_INVOKE)
    name, _ = yield from s.until('">')
    schema = s.schema(name)
    arguments: dict[str, str] = {}
    while True:
        yield from s.space()
        if (yield from s.expect(_PARAMETER, "</invoke>")) == "</invoke>":
            break
        key, _ = yield from s.until('">')
        member = schema.member(key)
        value = yield from typed_value(s, member, "</parameter>")
        # The template writes values bare; a newline on either side is layout that some versions add.
        arguments[key] = member.json(value.removeprefix("\n").removesuffix("\n"))
    s.call(name, json_object(arguments))


def _invoke(name: str, *parameters: tuple[str, str]) -> str:
    inner = "".join(f'<parameter name="{key}">{value}</parameter>\n' for key, value in parameters)
    return f'<invoke name="{name}">\n{inner}</invoke>\n'


def _block(*invokes: str) -> str:
    return f"<minimax:tool_call>\n{''.join(invokes)}</minimax:tool_call>"


INVOKE_OSLO = _invoke("get_weather", ("city", "Oslo"))
INVOKE_ROME = _invoke("get_weather", ("city", "Rome"), ("days", "3"))


class MiniMaxParser(MarkupParser):
    name = "minimax"
    aliases = ("minimax_m2",)
    reads = "reasoning and calls of MiniMax-M2, M2.1, M2.5 and M2.7"
    templates = (("<minimax:tool_call>",),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("[e~[",)
    calls = (Call("<minimax:tool_call>", _read_block),)
    syntax = (_CLOSE,)
    samples = (
        Sample("answer", "It is cold.", content="It is cold.", tools=TOOLS),
        Sample(
            "thinking, then two calls in one block",
            f"Cold?\n</think>\n\n{_block(INVOKE_OSLO, INVOKE_ROME)}[e~[",
            reasoning="Cold?",
            calls=(OSLO, ROME),
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "thinking opened twice",
            "<think>\nCold?\n</think>\n\nIt is cold.",
            content="It is cold.",
            reasoning="Cold?",
            prompt_tail="<think>\n",
        ),
        Sample(
            "text before and after the block",
            f"I look.\n\n{_block(INVOKE_OSLO)}\nSo.",
            content="I look.\n\n\nSo.",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no parameters", _block(_invoke("now")), calls=(("now", {}),), tools=TOOLS),
        Sample(
            "values of every type",
            _block(
                _invoke(
                    "set-light",
                    ("level", "null"),
                    ("warmth", "0.5"),
                    ("on", "true"),
                    ("rooms", '["hall", "7"]'),
                    ("colour", '{"red": 9007199254740993}'),
                    ("scene", "none"),
                )
            ),
            calls=(LIGHT,),
            tools=TOOLS,
        ),
        Sample(
            "text that looks like markup and numbers",
            _block(_invoke("write_file", ("path", "007"), ("text", SCRIPT + "\n"))),
            calls=(WRITE,),
            tools=TOOLS,
        ),
        Sample(
            "call in thinking that is never closed",
            f"Cold?\n{_block(INVOKE_OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "cut off in the second call",
            _block(INVOKE_OSLO, INVOKE_ROME)[:130],
            content=_block(INVOKE_OSLO, INVOKE_ROME)[len("<minimax:tool_call>\n" + INVOKE_OSLO) - 1 : 130],
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "malformed",
            "<minimax:tool_call>now()</minimax:tool_call>",
            content="<minimax:tool_call>now()</minimax:tool_call>",
            tools=TOOLS,
        ),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        invokes = one_of(
            *(
                chain(f'{_INVOKE}{named(function, _KEY)}">\n', _TAGS.arguments(function), "</invoke>\n")
                for function in functions(tools)
            )
        )
        return chain("<minimax:tool_call>\n", in_turn(invokes, choice), _CLOSE)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [MiniMaxParser]
