"""Mistral and Magistral, Ministral, Devstral: calls in `[TOOL_CALLS]`, in the notation of any tokenizer version.

Version 13 and later write `[TOOL_CALLS]NAME[ARGS]{…}` for each call, 11 puts `[CALL_ID]ID` between, 3 and 7 write one
array of objects. A call's id has nine letters and digits; their templates accept no other.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, Pattern, chain, one_of, optional
from mlx_host.parsing import (
    Call,
    MarkupParser,
    Parser,
    Reading,
    Sample,
    Scanner,
    ToolChoice,
    functions,
    in_turn,
    json_call,
    json_object_members,
    named,
    read_json,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json

_ID = re.compile(r"[a-zA-Z0-9]{9}")
_NAME_ENDS = re.compile(r"[^\s\[{]*")
_NAME = re.compile(r"[^\s\[{]+")
_WITH_ID = chain("[CALL_ID]", Pattern(_ID.pattern))
_ID_MEMBER = chain(', "id": "', Pattern(_ID.pattern), '"')


def _read_calls(s: Scanner) -> Reading[None]:
    yield from s.space()
    if (yield from s.optional("[")):
        yield from _read_array(s)
    elif (yield from s.lookahead("{")):
        _decide(s, (yield from read_json(s, first="{")))
    else:
        yield from _read_named(s)


def _read_named(s: Scanner) -> Reading[None]:
    name = yield from s.run(_NAME_ENDS)
    yield from s.space()
    id = ""
    if (yield from s.optional("[CALL_ID]")):
        id = (yield from s.run(_NAME_ENDS)).strip()
    # Some detokenizers drop this token.
    yield from s.optional("[ARGS]")
    arguments = yield from read_json(s, first='{"')
    s.call(name, arguments, _valid(id))


def _read_array(s: Scanner) -> Reading[None]:
    separator = ","
    while separator == ",":
        raw = yield from read_json(s, first="{")
        yield from s.space()
        separator = yield from s.optional(",", "]")
        _decide(s, raw)


def _decide(s: Scanner, raw: str) -> None:
    found = json_call(raw, id_key="id")
    if found is None:
        s.plain()
    else:
        name, arguments, id = found
        s.call(name, arguments, _valid(id or ""))


def _valid(id: str) -> str | None:
    return id if _ID.fullmatch(id) else None


def _args(call: tuple[str, dict[str, Any]], between: str = "[ARGS]") -> str:
    return f"[TOOL_CALLS]{call[0]}{between}{json.dumps(call[1])}"


def _array(*calls: tuple[str, dict[str, Any] | str]) -> str:
    objects = [{"name": name, "arguments": arguments, "id": "a1B2c3D4e"} for name, arguments in calls]
    return f"[TOOL_CALLS] {json.dumps(objects)}"


class MistralParser(MarkupParser):
    name = "mistral"
    aliases = ("magistral", "ministral", "devstral")
    reads = "reasoning and calls of Mistral, Magistral, Ministral and Devstral, old and new"
    templates = (("[TOOL_CALLS]",),)
    think_open = ("[THINK]", "<think>")
    think_close = ("[/THINK]", "</think>")
    noise = ("</s>",)
    calls = (Call("[TOOL_CALLS]", _read_calls),)
    samples = (
        Sample("answer", " It is [cold].\n</s>", content=" It is [cold].\n", tools=TOOLS),
        Sample("thinking", "[THINK]Cold?[/THINK]It is.", content="It is.", reasoning="Cold?"),
        Sample("thinking of version 11", "<think>\nCold?\n</think>\nIt is.", content="It is.", reasoning="Cold?"),
        Sample("thinking opened by the prompt", "Cold?[/THINK]No.", "No.", "Cold?", prompt_tail="[/INST][THINK]"),
        Sample("thinking cut off", "[THINK]Cold? Let", reasoning="Cold? Let"),
        Sample("call", _args(OSLO) + "</s>", calls=(OSLO,), tools=TOOLS),
        Sample(
            "thinking, text, parallel calls",
            f"[THINK]Cold?[/THINK]I look.{_args(OSLO)}{_args(ROME)}",
            content="I look.",
            reasoning="Cold?",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample("version 11", _args(OSLO, "[CALL_ID]a1B2c3D4e[ARGS]") + _args(ROME), calls=(OSLO, ROME), tools=TOOLS),
        Sample("version 3", _array(OSLO, ROME), calls=(OSLO, ROME), tools=TOOLS),
        Sample(
            "version 3, without arguments or as a string",
            f'[TOOL_CALLS][{{"name": "now"}},\n{_array(("get_weather", json.dumps(OSLO[1])))[len("[TOOL_CALLS] [") :]}',
            calls=(("now", {}), OSLO),
            tools=TOOLS,
        ),
        Sample(
            "version 3, without brackets",
            '[TOOL_CALLS] {"name": "now", "arguments": {}}',
            calls=(("now", {}),),
            tools=TOOLS,
        ),
        Sample(
            "[ARGS] dropped",
            _args(OSLO, "") + _args(ROME, " ") + _args(("now", {}), "\n"),
            calls=(OSLO, ROME, ("now", {})),
            tools=TOOLS,
        ),
        Sample("values of every type", _args(LIGHT) + _array(LIGHT), calls=(LIGHT, LIGHT), tools=TOOLS),
        Sample("text that looks like markup", _args(WRITE), calls=(WRITE,), tools=TOOLS),
        Sample(
            "markers in a string",
            _args(("f", {"a": "[TOOL_CALLS]g[ARGS]{}[/THINK]"})),
            calls=(("f", {"a": "[TOOL_CALLS]g[ARGS]{}[/THINK]"}),),
            tools=TOOLS,
        ),
        Sample("text behind a call", _args(OSLO) + "\nSo.", content="\nSo.", calls=(OSLO,), tools=TOOLS),
        Sample(
            "call in thinking that is never closed",
            f"[THINK]Cold?{_args(OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"[THINK]I could {_args(ROME)}.[/THINK]{_args(OSLO)}",
            reasoning=f"I could {_args(ROME)}.",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("cut off", _args(ROME)[:45], content=_args(ROME)[:45], tools=TOOLS),
        Sample(
            "cut off in the second of an array",
            _array(OSLO, ROME)[:120],
            content=_array(OSLO, ROME)[88:120],
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "malformed call beside a good one",
            f"[TOOL_CALLS]now[ARGS]{{oops}}{_args(OSLO)}",
            content="[TOOL_CALLS]now[ARGS]{oops}",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "arguments that are no object",
            '[TOOL_CALLS] [{"name": "now", "arguments": [1]}]',
            content='[TOOL_CALLS] [{"name": "now", "arguments": [1]}]',
            tools=TOOLS,
        ),
    )

    @classmethod
    def new_call_id(cls) -> str:
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """Leave it to the model which of its version's notations it writes."""
        declared = functions(tools)
        bare = [chain(named(function, _NAME), one_of("", _WITH_ID), "[ARGS]", function.json()) for function in declared]
        objects = [chain(json_object_members(function), optional(_ID_MEMBER), "}") for function in declared]
        array = chain("[TOOL_CALLS] [", in_turn(one_of(*objects), choice, ", "), "]")
        return one_of(in_turn(chain("[TOOL_CALLS]", one_of(*bare)), choice), array)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [MistralParser]
