"""Llama 3.1 to 4 with JSON calls: an answer that is a JSON object with a name and parameters is a call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import AnyText, Grammar, Repeated, TextUntil, after, chain, joined, one_of
from mlx_host.parsing import (
    Call,
    MarkupParser,
    Parser,
    Reading,
    Sample,
    Scanner,
    ToolChoice,
    in_turn,
    json_object_calls,
    read_json,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, SCRIPT, TOOLS, WRITE
from mlx_host.requests import Json

_FORMAT = '{"name": function name, "parameters": dictionary of argument name and its value}'
# Escapes may spell the same.
_LIKE_A_CALL = r'\s*\{(?s:.*)(?:"name"|"function"|\\u)(?s:.*)'


def _read_calls(s: Scanner) -> Reading[None]:
    separator = ";"
    while separator:
        raw = yield from read_json(s, first="{")
        if not s.json_call(raw, need_arguments=True):
            return
        yield from s.space()
        separator = yield from s.optional(";")


def _written(call: tuple[str, dict[str, Any]], key: str = "parameters") -> str:
    return json.dumps({"name": call[0], key: call[1]})


class Llama3JsonParser(MarkupParser):
    name = "llama3_json"
    aliases = ("llama3", "llama4_json")
    reads = "JSON calls of Llama 3.1, 3.2, 3.3 and 4"
    templates = (("<|python_tag|>",), (_FORMAT,))
    noise = ("<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|eom|>", "<|end_of_text|>")
    calls = (Call("<|python_tag|>", _read_calls), Call("{", _read_calls, inclusive=True, leading=True))
    syntax = (";",)
    samples = (
        Sample("answer", "It is cold.\n", content="It is cold.\n", tools=TOOLS),
        Sample("call", _written(OSLO) + "<|eot_id|>", calls=(OSLO,), tools=TOOLS),
        Sample("call with its marker", f"<|python_tag|>{_written(OSLO)}<|eom_id|>", calls=(OSLO,), tools=TOOLS),
        Sample(
            "parallel calls",
            f"\n\n{_written(OSLO)}; {_written(ROME, 'arguments')};{_written(('now', {}))}",
            calls=(OSLO, ROME, ("now", {})),
            tools=TOOLS,
        ),
        Sample("calls on lines", f"{_written(OSLO)}\n{_written(ROME)}", calls=(OSLO, ROME), tools=TOOLS),
        Sample("values of every type", _written(LIGHT), calls=(LIGHT,), tools=TOOLS),
        Sample("text that looks like markup", _written(WRITE), calls=(WRITE,), tools=TOOLS),
        Sample(
            "braces and markers in a string",
            _written(("f", {"a": '}}; {"name": "<|python_tag|>'})),
            calls=(("f", {"a": '}}; {"name": "<|python_tag|>'}),),
            tools=TOOLS,
        ),
        Sample(
            "type and order of keys, parameters as a string",
            f'{{"type": "function", "parameters": {json.dumps(json.dumps(OSLO[1]))}, "name": "get_weather"}}',
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("text behind a call", f"{_written(OSLO)}\nI look.", content="I look.", calls=(OSLO,), tools=TOOLS),
        Sample("text before a marked call", f"So: <|python_tag|>{_written(OSLO)}", "So: ", calls=(OSLO,), tools=TOOLS),
        Sample("JSON without parameters", '{"name": "now"}', content='{"name": "now"}', tools=TOOLS),
        Sample("JSON without a name", '{"parameters": {"a": 7}}\n', content='{"parameters": {"a": 7}}\n', tools=TOOLS),
        Sample("no JSON", SCRIPT.replace("if", "{"), content=SCRIPT.replace("if", "{"), tools=TOOLS),
        Sample("JSON in text", f"As in {_written(OSLO)}", content=f"As in {_written(OSLO)}", tools=TOOLS),
        Sample(
            "JSON in a fence",
            f"```json\n{_written(OSLO)}\n```",
            content=f"```json\n{_written(OSLO)}\n```",
            tools=TOOLS,
        ),
        Sample(
            "code behind the marker",
            '<|python_tag|>search.call(query="cold")',
            content='<|python_tag|>search.call(query="cold")',
            tools=TOOLS,
        ),
        Sample("cut off", _written(ROME)[:60], content=_written(ROME)[:60], tools=TOOLS),
        Sample(
            "cut off in the second call",
            f"{_written(OSLO)}; {_written(ROME)[:30]}",
            content=f"; {_written(ROME)[:30]}",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "malformed call beside a good one",
            f"<|python_tag|>{{oops}}<|python_tag|>{_written(OSLO)}",
            content="<|python_tag|>{oops}",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "parameters that are no object",
            '{"name": "now", "parameters": [1]}',
            content='{"name": "now", "parameters": [1]}',
            tools=TOOLS,
        ),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        calls = in_turn(json_object_calls(tools, "parameters"), choice, "; ")
        return one_of(calls, chain("<|python_tag|>", calls))

    def text_with(self, calls: Grammar, choice: ToolChoice) -> Grammar:
        """An answer that begins with a brace may be JSON without a function's name in it, or else is a call."""
        # One text each, or else the lexer would take their beginnings for text.
        calls = joined(calls)
        tagged = after(calls, "<|python_tag|>") or calls
        text = AnyText(without=("<|python_tag|>",), unless=(_LIKE_A_CALL,))
        call = one_of(calls, chain(TextUntil(("<|python_tag|>",), unless=(_LIKE_A_CALL,)), tagged))
        return chain(Repeated(call, 0, None if choice.parallel else 1), text)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [Llama3JsonParser]
