"""DeepSeek-V3.1: calls as a name and JSON between DeepSeek-V3's tokens, reasoning in `<think>`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain, one_of
from mlx_host.parsing import (
    Call,
    MarkupParser,
    Parser,
    Sample,
    ToolChoice,
    functions,
    in_turn,
    named,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json
from mlx_host_parser_deepseek_v3 import BEGIN, CALL, CALL_END, END, NAMES, SEPARATOR, read_block


def _written(call: tuple[str, dict[str, Any]], indent: int | None = None) -> str:
    name, arguments = call
    return f"{CALL}{name}{SEPARATOR}{json.dumps(arguments, indent=indent)}{CALL_END}"


def _block(*calls: str) -> str:
    return BEGIN + "".join(calls) + END


CALL_OSLO = _written(OSLO)


class DeepSeekV31Parser(MarkupParser):
    name = "deepseek_v31"
    aliases = ("deepseekv31",)
    reads = "calls of DeepSeek-V3.1 as bare JSON, reasoning in <think>"
    templates = ((BEGIN, SEPARATOR),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<｜end▁of▁sentence｜>",)
    calls = (Call(BEGIN, read_block), Call(CALL, read_block, inclusive=True))
    syntax = (END,)
    samples = (
        Sample("answer", "It is cold.\n", content="It is cold.\n", prompt_tail="<｜Assistant｜></think>", tools=TOOLS),
        Sample(
            "thinking",
            "Cold?</think>It is cold.<｜end▁of▁sentence｜>",
            content="It is cold.",
            reasoning="Cold?",
            prompt_tail="<｜Assistant｜><think>",
        ),
        Sample(
            "thinking cut off",
            "Cold? Let me",
            reasoning="Cold? Let me",
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample("stray closer", "</think>It is cold.", content="It is cold.", prompt_tail="<｜Assistant｜></think>"),
        Sample(
            "text and parallel calls",
            f"I look.\n\n{_block(CALL_OSLO, _written(ROME))}",
            content="I look.\n\n",
            calls=(OSLO, ROME),
            prompt_tail="<｜Assistant｜></think>",
            tools=TOOLS,
        ),
        Sample("arguments of every type", _block(_written(LIGHT)), calls=(LIGHT,), tools=TOOLS),
        Sample("JSON over several lines", _block(_written(WRITE, indent=2)), calls=(WRITE,), tools=TOOLS),
        Sample(
            "a marker in a string",
            _block(_written(("write_file", {"text": CALL_END + END}))),
            calls=(("write_file", {"text": CALL_END + END}),),
            tools=TOOLS,
        ),
        Sample(
            "no arguments",
            _block(_written(("now", {})), f"{CALL}now{SEPARATOR}{CALL_END}"),
            calls=(("now", {}),) * 2,
            tools=TOOLS,
        ),
        Sample(
            "fenced JSON",
            _block(f'{CALL}get_weather{SEPARATOR}\n```json\n{{"city": "Oslo"}}\n```{CALL_END}'),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "a call as V3 writes it",
            _block(f'{CALL}function{SEPARATOR}get_weather\n```json\n{{"city": "Oslo"}}\n```{CALL_END}'),
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "thinking never closed before the call",
            f"Cold?{_block(CALL_OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<｜Assistant｜><think>",
            tools=TOOLS,
        ),
        Sample("outer closer missing", BEGIN + CALL_OSLO, calls=(OSLO,), tools=TOOLS),
        Sample(
            "cut off in the second call",
            f"{BEGIN}{CALL_OSLO}{_written(ROME)[:50]}",
            content=_written(ROME)[:50],
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "malformed beside a good one",
            _block(f"{CALL}now{SEPARATOR}{{oops}}{CALL_END}", CALL_OSLO),
            content=f"{BEGIN}{CALL}now{SEPARATOR}{{oops}}{CALL_END}",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no tools in the request", _block(CALL_OSLO), content=_block(CALL_OSLO)),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        calls = [
            chain(f"{CALL}{named(function, NAMES)}{SEPARATOR}", function.json(), CALL_END)
            for function in functions(tools)
        ]
        return chain(BEGIN, in_turn(one_of(*calls), choice), END)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [DeepSeekV31Parser]
