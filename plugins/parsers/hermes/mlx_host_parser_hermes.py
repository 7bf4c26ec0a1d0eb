"""Hermes and all who write calls as JSON in `<tool_call>`: SmolLM3, Qwen2.5, Granite 4.0; Hermes 4 also thinks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain
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


def _json(call: tuple[str, dict[str, Any]]) -> str:
    name, arguments = call
    return json.dumps({"name": name, "arguments": arguments})


def _written(call: tuple[str, dict[str, Any]]) -> str:
    return f"<tool_call>\n{_json(call)}\n</tool_call>"


class HermesParser(MarkupParser):
    name = "hermes"
    aliases = ("qwen", "qwen25", "smollm3", "granite4")
    reads = "JSON calls in <tool_call>, reasoning in <think>: Hermes, Qwen2.5, SmolLM3, Granite 4.0"
    templates = (("<tool_call>", "tool_call.name"), ("<tool_call>", "tool_call['name']"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|im_end|>", "<|endoftext|>", "<|end_of_text|>")
    calls = (Call("<tool_call>", json_calls("</tool_call>")),)
    syntax = ("</tool_call>",)
    samples = (
        Sample("answer", "Oslo is cold.\n", content="Oslo is cold.\n", tools=TOOLS),
        Sample("call", _written(OSLO) + "<|im_end|>", calls=(OSLO,), tools=TOOLS),
        Sample("calls", _written(WRITE) + "\n" + _written(LIGHT), calls=(WRITE, LIGHT), tools=TOOLS),
        Sample(
            "calls in an array",
            f"<tool_call>[{_json(OSLO)}, {_json(ROME)}]</tool_call>",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "text around calls",
            f"First {_written(OSLO)} then {_written(ROME)} done.",
            content="First  then  done.",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "thinking, then a call",
            f"<think>\nCold?\n</think>\n{_written(OSLO)}",
            reasoning="Cold?",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "keys in another order, arguments as a string",
            '<tool_call>{"arguments": "{\\"city\\": \\"Oslo\\"}", "name": "get_weather"}</tool_call>',
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample("closer forgotten", _written(OSLO).removesuffix("</tool_call>"), calls=(OSLO,), tools=TOOLS),
        Sample("cut off", _written(WRITE)[:40], content=_written(WRITE)[:40], tools=TOOLS),
        Sample(
            "malformed",
            "<tool_call>\nget_weather(Oslo)\n</tool_call>",
            content="<tool_call>\nget_weather(Oslo)\n</tool_call>",
            tools=TOOLS,
        ),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return in_turn(chain("<tool_call>\n", json_object_calls(tools), "\n</tool_call>"), choice, "\n")


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [HermesParser]
