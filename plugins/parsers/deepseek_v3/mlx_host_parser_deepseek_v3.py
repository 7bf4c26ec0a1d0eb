"""DeepSeek-V3 and R1-0528: calls as fenced JSON between tokens of their own; R1 thinks in `<think>`.

V3.1 leaves out the fence and the word `function`. Checkpoints are served with the other's template, so the reader takes
both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing import (
    NAME,
    Call,
    MarkupParser,
    NotACall,
    Parser,
    Reading,
    Sample,
    Scanner,
    ToolChoice,
    functions,
    in_turn,
    named,
    read_json,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json

BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, SEPARATOR, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"

NAMES = re.compile(f"{NAME.pattern[:-1]}+")
_SPACE_OR_FENCE = re.compile(r"[\s`]*")


def read_block(s: Scanner) -> Reading[None]:
    calls = 0
    while True:
        yield from s.space()
        if not (yield from s.lookahead(CALL)):
            break
        yield from _read_call(s)
        calls += 1
    if not calls:
        raise NotACall
    yield from s.optional(END)


def _read_call(s: Scanner) -> Reading[None]:
    yield from s.expect(CALL)
    yield from s.space()
    name = yield from s.name()
    yield from s.space()
    yield from s.expect(SEPARATOR)
    yield from s.space()
    if not (yield from s.lookahead("{", "```", CALL_END)):
        name = yield from s.name()
        yield from s.space()
    if (yield from s.optional("```json", "```")):
        yield from s.space()
    arguments = ""
    if not (yield from s.lookahead(CALL_END)):
        arguments = yield from read_json(s, first="{")
        yield from s.run(_SPACE_OR_FENCE)
    yield from s.optional(CALL_END)
    s.call(name, arguments)


def _written(call: tuple[str, dict[str, Any]], indent: int | None = None) -> str:
    name, arguments = call
    return f"{CALL}function{SEPARATOR}{name}\n```json\n{json.dumps(arguments, indent=indent)}\n```{CALL_END}"


def _block(*calls: str) -> str:
    return BEGIN + "\n".join(calls) + END


CALL_OSLO = _written(OSLO)


class DeepSeekV3Parser(MarkupParser):
    name = "deepseek_v3"
    aliases = ("deepseekv3",)
    reads = "calls of DeepSeek-V3 and R1-0528 as fenced JSON, reasoning in <think>"
    templates = ((BEGIN, SEPARATOR, "```json"),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<｜end▁of▁sentence｜>",)
    calls = (Call(BEGIN, read_block), Call(CALL, read_block, inclusive=True))
    syntax = (END,)
    samples = (
        Sample("answer", "It is `cold`.\n", content="It is `cold`.\n", tools=TOOLS),
        Sample("call", _block(CALL_OSLO) + "<｜end▁of▁sentence｜>", calls=(OSLO,), tools=TOOLS),
        Sample(
            "text before, between and after",
            f"I look.\n{_block(_written(ROME), CALL_OSLO)}\nAnd\n{_block(CALL_OSLO)}\nSo.",
            content="I look.\n\nAnd\n\nSo.",
            calls=(ROME, OSLO, OSLO),
            tools=TOOLS,
        ),
        Sample("arguments of every type", _block(_written(LIGHT)), calls=(LIGHT,), tools=TOOLS),
        Sample(
            "JSON over several lines, text that looks like markup",
            _block(_written(WRITE, indent=2)),
            calls=(WRITE,),
            tools=TOOLS,
        ),
        Sample(
            "markers and a fence in a string",
            _block(_written(("write_file", {"text": f"```json\n{CALL_END}{END}\n```"}))),
            calls=(("write_file", {"text": f"```json\n{CALL_END}{END}\n```"}),),
            tools=TOOLS,
        ),
        Sample(
            "no arguments",
            _block(_written(("now", {})), f"{CALL}function{SEPARATOR}now\n{CALL_END}"),
            calls=(("now", {}),) * 2,
            tools=TOOLS,
        ),
        Sample("unknown function", _block(_written(("f-1.g", {"a": 1}))), calls=(("f-1.g", {"a": 1}),), tools=TOOLS),
        Sample(
            "a call as V3.1 writes it",
            f'{BEGIN}{CALL}get_weather{SEPARATOR}{{"city": "Oslo"}}{CALL_END}{END}',
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("outer markers missing", f"So:{CALL_OSLO}", content="So:", calls=(OSLO,), tools=TOOLS),
        Sample("all closers missing", _block(CALL_OSLO).split("\n```<")[0], calls=(OSLO,), tools=TOOLS),
        Sample(
            "thinking opened by the prompt, then a call",
            f"Cold?\n</think>\n\n{_block(CALL_OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<｜Assistant｜><think>\n",
            tools=TOOLS,
        ),
        Sample(
            "thinking never closed before the call",
            f"<think>\nCold? {_block(CALL_OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"Maybe {_block(CALL_OSLO)}\n</think>\n\nIt is cold.",
            content="It is cold.",
            reasoning=f"Maybe {_block(CALL_OSLO)}",
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "marker mentioned in thinking",
            f"With {BEGIN} I could.\n</think>\n\nYes.",
            content="Yes.",
            reasoning=f"With {BEGIN} I could.",
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "the opener over and over",
            BEGIN * 3 + "M",
            content=BEGIN * 3 + "M",
            tools=TOOLS,
        ),
        Sample("cut off", _block(CALL_OSLO)[:75], content=_block(CALL_OSLO)[:75], tools=TOOLS),
        Sample(
            "malformed between good ones",
            f"{BEGIN}{CALL_OSLO}{CALL}function{SEPARATOR}now\n```json\n{{oops}}\n```{CALL_END}{CALL_OSLO}{END}",
            content=f"{CALL}function{SEPARATOR}now\n```json\n{{oops}}\n```{CALL_END}",
            calls=(OSLO, OSLO),
            tools=TOOLS,
        ),
        Sample(
            "arguments that are no object",
            _block(CALL_OSLO.replace('{"city": "Oslo"}', "[1]")),
            content=_block(CALL_OSLO.replace('{"city": "Oslo"}', "[1]")),
            tools=TOOLS,
        ),
        Sample("no tools in the request", _block(CALL_OSLO), content=_block(CALL_OSLO)),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        calls = [
            chain(f"{CALL}function{SEPARATOR}{named(function, NAMES)}\n```json\n", function.json(), f"\n```{CALL_END}")
            for function in functions(tools)
        ]
        return chain(BEGIN, in_turn(one_of(*calls), choice, "\n"), END)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [DeepSeekV3Parser]
