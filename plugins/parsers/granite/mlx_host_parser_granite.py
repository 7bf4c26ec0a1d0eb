"""Granite 3 and 4.0: calls as JSON behind a token or in tags; reasoning in tags, or announced in words as 3.2 does.

Granite 4.2 writes as Qwen3.5 does, and has that family's parser.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, TextUntil, chain, one_of
from mlx_host.parsing import (
    Call,
    MarkupParser,
    Parser,
    Sample,
    ToolChoice,
    in_turn,
    json_calls,
    json_object_calls,
)
from mlx_host.parsing.samples import LIGHT, OSLO, ROME, TOOLS, WRITE
from mlx_host.requests import Json

_THOUGHTS = ("Here is my thought process:", "Here's my thought process:")
_RESPONSE = ("Here is my response:", "Here's my response:")
_END_RESPONSE = "</response>"


def _written(*calls: tuple[str, dict[str, Any]], opener: str = "<|tool_call|>") -> str:
    return opener + json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls])


def _tagged(call: tuple[str, dict[str, Any]], *, as_string: bool = False) -> str:
    name, arguments = call
    value: object = json.dumps(arguments) if as_string else arguments
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': value})}\n</tool_call>"


class GraniteParser(MarkupParser):
    name = "granite"
    aliases = ("granite3", "granite_20b_fc")
    reads = "reasoning and calls of Granite 3, calls of Granite 4.0"
    templates = (
        ("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
        ("<|start_of_role|>", "<|end_of_role|>", "<tool_call>"),
        ("<|start_of_role|>available_tools<|end_of_role|>",),
        ("<|start_of_role|>", "<|end_of_role|>", "Here is my thought process:"),
    )
    think_open = ("<think>", *_THOUGHTS)
    think_close = ("</think>", "</think><response>", "</think>\n<response>", "</think>\n\n<response>", *_RESPONSE)
    noise = ("<|end_of_text|>", _END_RESPONSE)
    calls = (
        Call("<|tool_call|>", json_calls()),
        Call("<tool_call>", json_calls("</tool_call>")),
        Call("<function_call>", json_calls("</function_call>")),
    )
    syntax = ("</tool_call>", "</function_call>")
    # Without the words, which any answer may hold.
    telltales = ("<|tool_call|>", "<tool_call>", "<function_call>", "<think>", "</think>")
    samples = (
        Sample("answer", "It is [cold].\n", content="It is [cold].\n", tools=TOOLS),
        Sample("call", _written(OSLO) + "<|end_of_text|>", calls=(OSLO,), tools=TOOLS),
        Sample("parallel calls", _written(OSLO, ROME), calls=(OSLO, ROME), tools=TOOLS),
        Sample("calls behind a tag", _written(OSLO, ROME, opener="<tool_call>"), calls=(OSLO, ROME), tools=TOOLS),
        Sample(
            "text around calls",
            f"I look. {_written(OSLO)} So.\n{_written(ROME)}",
            content="I look.  So.\n",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample("arguments of every type", _written(LIGHT, WRITE), calls=(LIGHT, WRITE), tools=TOOLS),
        Sample(
            "Granite 4.0, arguments also as a string",
            f"{_tagged(OSLO)}\n{_tagged(ROME, as_string=True)}",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "Granite 20B",
            '<function_call> {"name": "get_weather", "arguments": {"city": "Oslo"}}\n<function_call> {"name": "now"}',
            calls=(OSLO, ("now", {})),
            tools=TOOLS,
        ),
        Sample(
            "Granite 3.2's reasoning",
            "Here is my thought process: Cold?\n\nHere is my response: It is cold.",
            content="It is cold.",
            reasoning="Cold?",
        ),
        Sample(
            "the same in other words, then a call",
            f"Here's my thought process:\nCold?\nHere's my response:\n{_written(OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "these words in an answer",
            "Well. Here is my thought process: none. Here is my response: none.",
            content="Well. Here is my thought process: none. Here is my response: none.",
        ),
        Sample(
            "Granite 3.3's reasoning",
            "<think>Cold?</think>\n<response>It is cold.</response><|end_of_text|>",
            content="It is cold.",
            reasoning="Cold?",
        ),
        Sample(
            "tags without a response",
            "<think>Cold?</think>\n\nIt is </response> cold.",
            content="It is </response> cold.",
            reasoning="Cold?",
        ),
        Sample(
            "thinking never closed before the call",
            f"Here is my thought process: Cold?\n{_written(OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("thinking cut off", "Here is my thought process: Cold", reasoning="Cold"),
        Sample(
            "call drafted in thinking",
            f"<think>Maybe {_written(OSLO)}?</think><response>It is cold.</response>",
            content="It is cold.",
            reasoning=f"Maybe {_written(OSLO)}?",
            tools=TOOLS,
        ),
        Sample(
            "cut off in the second call",
            _written(OSLO, ROME)[:100],
            content=' {"name": "get_weather", "argum',
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no calls in the list", "<|tool_call|>[]", content="<|tool_call|>[]", tools=TOOLS),
        Sample(
            "malformed beside a good one",
            f"<|tool_call|>now()\n{_written(OSLO)}",
            content="<|tool_call|>now()\n",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("no tools in the request", _written(OSLO), content=_written(OSLO)),
    )

    def __init__(self, *, prompt_tail: str = "", tools: Sequence[Json] = (), reasoning: bool = True) -> None:
        super().__init__(prompt_tail=prompt_tail, tools=tools, reasoning=reasoning)
        self._in_response = False

    def counts(self, marker: str, *, thinking: bool, fresh: bool) -> bool:
        """The words open thinking only at the beginning, and `</response>` closes only what was opened."""
        if marker in _THOUGHTS:
            return fresh
        if marker in _RESPONSE:
            return thinking
        if marker == _END_RESPONSE:
            return self._in_response
        self._in_response = self._in_response or marker.endswith("<response>")
        return True

    def constrained(self, calls: Grammar | None, form: Grammar | None, choice: ToolChoice) -> Grammar:
        """The answer may stand in a tag of its own, behind thinking in one."""
        answer = super().constrained(calls, form, choice)
        if form is None or not self.reasoning or "</think>" in self.prompt_tail:
            return answer
        inside = self._opens_inside(self.prompt_tail)
        thoughts = TextUntil(("</think>",), unless=(f"(?s:.*)(?:{'|'.join(_RESPONSE)})(?s:.*)",))
        tagged = chain(one_of("", "\n", "\n\n"), "<response>", form, _END_RESPONSE)
        return one_of(answer, chain("" if inside else "<think>", thoughts, tagged))

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """Leave it to the model which version's notation it writes."""
        call = json_object_calls(tools)
        array = chain("[", in_turn(call, choice, ", "), "]")
        tagged = in_turn(chain("<tool_call>\n", call, "\n</tool_call>"), choice, "\n")
        return one_of(chain("<|tool_call|>", array), chain("<tool_call>", array), tagged)


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [GraniteParser]
