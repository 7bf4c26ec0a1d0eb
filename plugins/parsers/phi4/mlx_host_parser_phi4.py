"""Phi-4-mini: calls as a JSON array behind the word `functools`, or in tokens; Phi-4-reasoning thinks in `<think>`."""

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
    Reading,
    Sample,
    Scanner,
    ToolChoice,
    in_turn,
    json_calls,
    json_object_calls,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json

_read_array = json_calls()


def _read_functools(s: Scanner) -> Reading[None]:
    yield from s.expect("functools")
    yield from _read_array(s)


def _json(*calls: tuple[str, dict[str, Any]], key: str = "arguments") -> str:
    return json.dumps([{"name": name, key: arguments} for name, arguments in calls])


class Phi4Parser(MarkupParser):
    name = "phi4"
    aliases = ("phi4_mini_json", "phi4_mini")
    reads = "calls of Phi-4-mini, reasoning of Phi-4-reasoning"
    templates = (("<|tool|>", "<|/tool|>"), ("functools[",), ("<|tool_call|>", "<|/tool_call|>"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|end|>", "<|endoftext|>")
    calls = (
        # With its bracket, so that what is said of the Python module of that name is not held back.
        Call("functools[", _read_functools, inclusive=True),
        Call("<|tool_call|>", json_calls("<|/tool_call|>")),
    )
    syntax = ("<|/tool_call|>",)
    samples = (
        Sample("answer", "It is [cold].\n", content="It is [cold].\n", tools=TOOLS),
        Sample("call", f"functools{_json(OSLO)}<|end|>", calls=(OSLO,), tools=TOOLS),
        Sample("parallel calls", f"functools{_json(OSLO, ROME)}", calls=(OSLO, ROME), tools=TOOLS),
        Sample(
            "text before and after",
            f"I look. functools{_json(OSLO)}\nSo.",
            content="I look. \nSo.",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("in tokens, an object", f"<|tool_call|>{_json(OSLO)[1:-1]}<|/tool_call|>", calls=(OSLO,), tools=TOOLS),
        Sample(
            "in tokens, an array",
            f"<|tool_call|>\n{_json(OSLO, ROME)}\n<|/tool_call|><|end|>",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "parameters in place of arguments", f"functools{_json(ROME, key='parameters')}", calls=(ROME,), tools=TOOLS
        ),
        Sample("brackets in arguments", f"functools{_json(LIGHT, WRITE)}", calls=(LIGHT, WRITE), tools=TOOLS),
        Sample(
            "no arguments",
            'functools[{"name": "now", "arguments": {}}, {"name": "now"}]',
            calls=(("now", {}),) * 2,
            tools=TOOLS,
        ),
        Sample(
            "Phi-4-reasoning",
            "<think>Cold?</think>It is cold.<|end|>",
            content="It is cold.",
            reasoning="Cold?",
        ),
        Sample(
            "the Python module",
            "import functools\n\n@functools.cache\nx = functools[0]",
            content="import functools\n\n@functools.cache\nx = functools[0]",
            tools=TOOLS,
        ),
        Sample("an empty list", "functools[]", content="functools[]", tools=TOOLS),
        Sample("text in the list", "functools[ just text ]", content="functools[ just text ]", tools=TOOLS),
        Sample(
            "cut off in the second call",
            f"functools{_json(OSLO, ROME)[:80]}",
            content=' {"name": "get_weather",',
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "malformed beside a good one",
            f"<|tool_call|>now()<|/tool_call|>functools{_json(OSLO)}",
            content="<|tool_call|>now()<|/tool_call|>",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no tools in the request", f"functools{_json(OSLO)}", content=f"functools{_json(OSLO)}"),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """Leave it to the model whether it writes the word or the tokens."""
        array = chain(in_turn(json_object_calls(tools), choice, ", "), "]")
        return one_of(chain("functools[", array), chain("<|tool_call|>[", array, "<|/tool_call|>"))


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [Phi4Parser]
