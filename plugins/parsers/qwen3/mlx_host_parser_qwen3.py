"""Qwen3: `<think>` reasoning and JSON calls in `<tool_call>`; Qwen3-Coder's XML calls under the same model types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain
from mlx_host.parsing import (
    Call,
    MarkupParser,
    Parser,
    Sample,
    ToolChoice,
    first_of,
    function_xml,
    in_turn,
    json_calls,
    json_object_calls,
)
from mlx_host.requests import Json

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
TOOLS = (WEATHER, NOW)

OSLO = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
ROME = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}}\n</tool_call>'
CALL_OSLO = ("get_weather", {"city": "Oslo"})
CALL_ROME = ("get_weather", {"city": "Rome", "days": 3})


class Qwen3Parser(MarkupParser):
    name = "qwen3"
    aliases = ("qwen3_moe", "qwen3_next", "qwen3_vl")
    reads = "Qwen3, Qwen3-Next and Qwen3-VL, thinking or not; Qwen3-Coder under these model types"
    templates = (("<tool_call>", "tool_call.name", "<think>"), ("<tool_call>", "tool_call['name']", "<think>"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|im_end|>", "<|endoftext|>")
    calls = (
        Call(
            "<tool_call>",
            first_of({"{": json_calls("</tool_call>"), "<function=": function_xml("</tool_call>")}),
        ),
    )
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
        Sample("call", OSLO + "<|im_end|>", calls=(CALL_OSLO,), tools=TOOLS),
        Sample("parallel calls", f"{OSLO}\n{ROME}", calls=(CALL_OSLO, CALL_ROME), tools=TOOLS),
        Sample(
            "thinking, then a call",
            f"<think>\nCold?\n</think>\n\n{OSLO}",
            reasoning="Cold?",
            calls=(CALL_OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "text around calls",
            f"First.\n{OSLO}\nThen.\n{ROME}\nDone.",
            content="First.\n\nThen.\n\nDone.",
            calls=(CALL_OSLO, CALL_ROME),
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
            f"Cold? I ask.\n{OSLO}",
            reasoning="Cold? I ask.",
            calls=(CALL_OSLO,),
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"<think>\nI could write {ROME} here.\n</think>\n\n{OSLO}",
            reasoning=f"I could write {ROME} here.",
            calls=(CALL_OSLO,),
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
            f'<tool_call>\n{{"name": "now", "arguments": {{oops}}}}\n</tool_call>\n{OSLO}',
            content='<tool_call>\n{"name": "now", "arguments": {oops}}\n</tool_call>\n',
            calls=(CALL_OSLO,),
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
        Sample("only the closer missing", OSLO.removesuffix("</tool_call>"), calls=(CALL_OSLO,), tools=TOOLS),
        Sample("one brace too many", OSLO.replace("}}", "}}}"), calls=(CALL_OSLO,), tools=TOOLS),
        Sample("no tools in the request", OSLO, content=OSLO),
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
