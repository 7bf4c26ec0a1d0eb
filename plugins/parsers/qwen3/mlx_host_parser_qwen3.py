"""Qwen3: `<think>` reasoning and JSON calls in `<tool_call>`; Qwen3-Coder's XML calls under the same model types."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain
from mlx_host.parsing import Call, MarkupParser, Parser, Sample, ToolChoice, in_turn, json_object_calls, json_or_xml
from mlx_host.parsing.samples import OSLO, ROME, TOOLS
from mlx_host.requests import Json


def _json(call: tuple[str, dict[str, Any]]) -> str:
    name, arguments = call
    return json.dumps({"name": name, "arguments": arguments})


def _written(call: tuple[str, dict[str, Any]]) -> str:
    return f"<tool_call>\n{_json(call)}\n</tool_call>"


CALL_OSLO, CALL_ROME = _written(OSLO), _written(ROME)


class Qwen3Parser(MarkupParser):
    name = "qwen3"
    aliases = ("qwen3_moe", "qwen3_next", "qwen3_vl")
    reads = "Qwen3, Qwen3-Next and Qwen3-VL, thinking or not; Qwen3-Coder under these model types"
    templates = (("<tool_call>", "tool_call.name", "<think>"), ("<tool_call>", "tool_call['name']", "<think>"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|im_end|>", "<|endoftext|>")
    calls = (Call("<tool_call>", json_or_xml("</tool_call>")),)
    syntax = ("</tool_call>",)
    samples = (
        Sample("answer", "Oslo is cold.\n\n  - very\n", content="Oslo is cold.\n\n  - very\n", tools=TOOLS),
        Sample("thinking", "<think>\nCold?\n</think>\n\nYes.", content="Yes.", reasoning="Cold?"),
        Sample("empty thinking", "<think>\n\n</think>\n\nYes.", content="Yes."),
        Sample("thinking opened by the prompt", "Cold?\n</think>\n\nYes.", "Yes.", "Cold?", prompt_tail="<think>\n"),
        Sample("thinking opened twice", "<think>\nCold?\n</think>\n\nYes.", "Yes.", "Cold?", prompt_tail="<think>\n"),
        Sample("thinking cut off", "Cold? Let me see", reasoning="Cold? Let me see", prompt_tail="<think>\n"),
        Sample("thinking switched off", "Yes.", content="Yes.", prompt_tail="<think>\n\n</think>\n\n"),
        Sample("stray closer", "Yes.</think> No.", content="Yes. No."),
        Sample("tag talked about", "Write `<think>` first.", content="Write `<think>` first."),
        Sample("call", CALL_OSLO + "<|im_end|>", calls=(OSLO,), tools=TOOLS),
        Sample("parallel calls", f"{CALL_OSLO}\n{CALL_ROME}", calls=(OSLO, ROME), tools=TOOLS),
        Sample(
            "calls in an array",
            f"<tool_call>\n[\n  {_json(OSLO)} ,\n  {_json(ROME)}\n]\n</tool_call>",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "thinking, then a call",
            f"<think>\nCold?\n</think>\n\n{CALL_OSLO}",
            reasoning="Cold?",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "text around calls",
            f"First.\n{CALL_OSLO}\nThen.\n{CALL_ROME}\nDone.",
            content="First.\n\nThen.\n\nDone.",
            calls=(OSLO, ROME),
            tools=TOOLS,
        ),
        Sample(
            "no arguments",
            '<tool_call>{"arguments": {}, "name": "now"}</tool_call>\n<tool_call>{"name": "now"}</tool_call>',
            calls=(("now", {}), ("now", {})),
            tools=TOOLS,
        ),
        Sample(
            "markers in a string",
            '<tool_call>\n{"name": "say", "arguments": {"text": "<tool_call></tool_call></think>\\"}}"}}\n</tool_call>',
            calls=(("say", {"text": '<tool_call></tool_call></think>"}}'}),),
            tools=TOOLS,
        ),
        Sample(
            "call in thinking that is never closed",
            f"Cold? I ask.\n{CALL_OSLO}",
            reasoning="Cold? I ask.",
            calls=(OSLO,),
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"<think>\nI could write {CALL_ROME} here.\n</think>\n\n{CALL_OSLO}",
            reasoning=f"I could write {CALL_ROME} here.",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "marker mentioned in thinking",
            "I need a <tool_call> here.\n</think>\n\nYes.",
            content="Yes.",
            reasoning="I need a <tool_call> here.",
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "malformed call beside a good one",
            f'<tool_call>\n{{"name": "now", "arguments": {{oops}}}}\n</tool_call>\n{CALL_OSLO}',
            content='<tool_call>\n{"name": "now", "arguments": {oops}}\n</tool_call>\n',
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "arguments that are no object",
            '<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
            content='<tool_call>{"name": "now", "arguments": [1]}</tool_call>',
            tools=TOOLS,
        ),
        Sample(
            "call cut off",
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Os',
            content='<tool_call>\n{"name": "get_weather", "arguments": {"city": "Os',
            tools=TOOLS,
        ),
        Sample("only the closer missing", CALL_OSLO.removesuffix("</tool_call>"), calls=(OSLO,), tools=TOOLS),
        Sample("one brace too many", CALL_OSLO.replace("}}", "}}}"), calls=(OSLO,), tools=TOOLS),
        Sample("no tools in the request", CALL_OSLO, content=CALL_OSLO),
        Sample(
            "fenced JSON that is no call",
            '```json\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n```',
            content='```json\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n```',
            tools=TOOLS,
        ),
        Sample(
            "boxes of a vision model",
            '[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "cat"}\n]',
            content='[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "cat"}\n]',
            tools=TOOLS,
        ),
        Sample(
            "Qwen3-Coder's call",
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n"
            "</parameter>\n</function>\n</tool_call>",
            calls=(("get_weather", {"city": "Oslo", "days": 3}),),
            tools=TOOLS,
        ),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return in_turn(chain("<tool_call>\n", json_object_calls(tools), "\n</tool_call>"), choice, "\n")


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [Qwen3Parser]
