"""Kimi K2 to K2.6: calls with an id each in a section of special tokens, reasoning in `<think>`.

The template prints a call's id, `functions.NAME:NUMBER`, and refers to it with the result: it goes to the client as is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, Pattern, chain, one_of
from mlx_host.parsing import (
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

# Models now and then forget the plural, or the section.
_SECTIONS = ("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>")
_SECTION_ENDS = ("<|tool_calls_section_end|>", "<|tool_call_section_end|>")
_BEGIN, _ARGUMENT, _END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"

_IN_ID = re.compile(r"[^<{]*")
_NAME = re.compile(r"[^\s<{]+")
_NUMBER = Pattern("0|[1-9][0-9]{0,3}")
_ID = re.compile(r"(?:functions\.)?(\S+?)(:[0-9]+)?")
_SPACE_OR_BRACES = re.compile(r"[\s}]*")


def _read_section(s: Scanner) -> Reading[None]:
    ids: set[str] = set()
    while True:
        yield from s.space()
        if not (yield from s.lookahead(_BEGIN)):
            break
        yield from _read_call(s, ids)
    if not ids:
        raise NotACall
    yield from s.optional(*_SECTION_ENDS)


def _read_call(s: Scanner, ids: set[str]) -> Reading[None]:
    yield from s.expect(_BEGIN)
    id = (yield from s.run(_IN_ID)).strip()
    yield from s.optional(_ARGUMENT)
    yield from s.space()
    empty = bool((yield from s.lookahead(_END)))
    arguments = "" if empty else (yield from read_json(s, first='{"'))
    yield from s.run(_SPACE_OR_BRACES)
    yield from s.optional(_END)
    match = _ID.fullmatch(id)
    # Without its number, or with that of another call, it is no id.
    known = match is not None and match[2] is not None and id not in ids
    ids.add(id)
    s.call(match[1] if match else "", arguments, id if known else None)


def _written(call: tuple[str, dict[str, Any]], id: str = "functions.{}:0") -> str:
    name, arguments = call
    return f"{_BEGIN}{id.format(name)}{_ARGUMENT}{json.dumps(arguments)}{_END}"


def _section(*calls: str) -> str:
    return f"{_SECTIONS[0]}{''.join(calls)}{_SECTION_ENDS[0]}"


CALL_OSLO, CALL_ROME = _written(OSLO), _written(ROME, "functions.{}:1")


class KimiK2Parser(MarkupParser):
    name = "kimi_k2"
    aliases = ("kimi_k25",)
    reads = "reasoning and calls of Kimi K2, K2-Thinking, K2.5 and K2.6"
    templates = (("<|tool_calls_section_begin|>",),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|im_end|>", "[EOS]")
    calls = (*(Call(section, _read_section) for section in _SECTIONS), Call(_BEGIN, _read_section, inclusive=True))
    syntax = _SECTION_ENDS
    samples = (
        Sample("answer", "It is cold.\n", content="It is cold.\n", tools=TOOLS),
        Sample("thinking", "<think>Cold?</think>It is.<|im_end|>", content="It is.", reasoning="Cold?"),
        Sample(
            "thinking opened by the prompt",
            "Cold?</think>It is.",
            content="It is.",
            reasoning="Cold?",
            prompt_tail="<|im_assistant|>assistant<|im_middle|><think>",
        ),
        Sample(
            "thinking switched off",
            "It is.",
            content="It is.",
            prompt_tail="<|im_assistant|>assistant<|im_middle|><think></think>",
        ),
        Sample("call", f"I look.{_section(CALL_OSLO)}<|im_end|>", content="I look.", calls=(OSLO,), tools=TOOLS),
        Sample("parallel calls", _section(CALL_OSLO, CALL_ROME), calls=(OSLO, ROME), tools=TOOLS),
        Sample(
            "white space everywhere",
            f"{_SECTIONS[0]}\n{_BEGIN} functions.now:0 {_ARGUMENT}\n{{ }}\n{_END}\n{_BEGIN}\nfunctions.get_weather:12\n"
            f'{_ARGUMENT} {{\n"city": "Oslo"}} {_END}\n{_SECTION_ENDS[0]}',
            calls=(("now", {}), OSLO),
            tools=TOOLS,
        ),
        Sample("text behind the section", f"{_section(CALL_OSLO)}So.", content="So.", calls=(OSLO,), tools=TOOLS),
        Sample("values of every type", _section(_written(LIGHT)), calls=(LIGHT,), tools=TOOLS),
        Sample("text that looks like markup", _section(_written(WRITE)), calls=(WRITE,), tools=TOOLS),
        Sample(
            "markers in a string",
            _section(_written(("f", {"a": _END + _SECTION_ENDS[0]}))),
            calls=(("f", {"a": _END + _SECTION_ENDS[0]}),),
            tools=TOOLS,
        ),
        Sample(
            "names with hyphens and dots, ids without prefix or number",
            _section(_written(("a-b.c", {}), "{}:3"), _written(("now", {}), "functions.{}"), _written(OSLO, "{}")),
            calls=(("a-b.c", {}), ("now", {}), OSLO),
            tools=TOOLS,
        ),
        Sample(
            "no arguments, arguments without their marker, arguments as a string",
            _section(
                f"{_BEGIN}functions.now:0{_ARGUMENT}{_END}",
                CALL_ROME.replace(_ARGUMENT, ""),
                f"{_BEGIN}functions.get_weather:2{_ARGUMENT}{json.dumps(json.dumps(OSLO[1]))}{_END}",
            ),
            calls=(("now", {}), ROME, OSLO),
            tools=TOOLS,
        ),
        Sample(
            "singular section",
            f"{_SECTIONS[1]}{CALL_OSLO}{_SECTION_ENDS[1]}",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("section forgotten", f"I look.\n{CALL_OSLO}", content="I look.\n", calls=(OSLO,), tools=TOOLS),
        Sample("closers forgotten", _SECTIONS[0] + CALL_OSLO.removesuffix(_END), calls=(OSLO,), tools=TOOLS),
        Sample(
            "call in thinking that is never closed",
            f"Cold?{_section(CALL_OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<think>",
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"<think>I could {_section(CALL_ROME)}.</think>{_section(CALL_OSLO)}",
            reasoning=f"I could {_section(CALL_ROME)}.",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "marker mentioned in thinking",
            f"A {_SECTIONS[0]} is due.</think>No.",
            content="No.",
            reasoning=f"A {_SECTIONS[0]} is due.",
            prompt_tail="<think>",
            tools=TOOLS,
        ),
        Sample(
            "words where the name should be",
            f'{_BEGIN}I think {{"a": 1}}',
            content=f'{_BEGIN}I think {{"a": 1}}',
            tools=TOOLS,
        ),
        Sample("cut off", _section(CALL_ROME)[:110], content=_section(CALL_ROME)[:110], tools=TOOLS),
        Sample(
            "cut off in the second call",
            _section(CALL_OSLO, CALL_ROME)[:190],
            content=_section(CALL_OSLO, CALL_ROME)[len(_SECTIONS[0] + CALL_OSLO) : 190],
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "malformed call beside a good one",
            f"{_SECTIONS[0]}{_BEGIN}functions.now:0{_ARGUMENT}{{oops}}{_END}{CALL_ROME}{_SECTION_ENDS[0]}",
            content=f"{_SECTIONS[0]}{_BEGIN}functions.now:0{_ARGUMENT}{{oops}}{_END}",
            calls=(ROME,),
            tools=TOOLS,
        ),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        calls = [
            chain(f"{_BEGIN}functions.{named(function, _NAME)}:", _NUMBER, _ARGUMENT, function.json(), _END)
            for function in functions(tools)
        ]
        return chain(_SECTIONS[0], in_turn(one_of(*calls), choice), _SECTION_ENDS[0])


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [KimiK2Parser]
