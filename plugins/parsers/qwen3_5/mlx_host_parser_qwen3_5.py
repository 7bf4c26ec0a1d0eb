"""Qwen3.5, 3.6 and 3.8 and those trained like them: `<think>` reasoning and Qwen3-Coder's XML calls."""

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
    function_xml,
    function_xml_calls,
    in_turn,
    json_or_xml,
)
from mlx_host.parsing.samples import OSLO, TOOLS
from mlx_host.requests import Json

CALL_OSLO = "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>"


class Qwen35Parser(MarkupParser):
    name = "qwen3_5"
    aliases = ("qwen3_6", "qwen3_8", "nemotron3_nano", "nemotron3", "mimo_v2", "step3p5", "step_35", "granite4_2")
    reads = "reasoning and XML calls: Qwen3.5, 3.6, 3.8, Nemotron 3, MiMo v2, Step 3.5, Granite 4.2"
    templates = (
        ("<tool_call>\\n<function=", "<parameter=", "<think>"),
        ("<tool_call>\n<function=", "<parameter=", "<think>"),
    )
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|im_end|>", "<|endoftext|>")
    calls = (
        Call("<tool_call>", json_or_xml("</tool_call>")),
        Call("<function=", function_xml("</tool_call>"), inclusive=True),
    )
    syntax = ("</tool_call>",)
    samples = (
        Sample("answer", "It is cold.", content="It is cold.", prompt_tail="<think>\n\n</think>\n\n", tools=TOOLS),
        Sample(
            "thinking, then a call",
            f"Cold?\n</think>\n\n{CALL_OSLO}<|im_end|>",
            reasoning="Cold?",
            calls=(OSLO,),
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "thinking never closed before the call",
            f"Cold? I ask.\n\n{CALL_OSLO}",
            reasoning="Cold? I ask.",
            calls=(OSLO,),
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "call drafted in thinking",
            f"Maybe {CALL_OSLO} then?\n</think>\n\nIt is cold.",
            content="It is cold.",
            reasoning=f"Maybe {CALL_OSLO} then?",
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
        Sample(
            "text between thinking and call",
            f"<think>\nCold?\n</think>\n\nI look.\n\n{CALL_OSLO}",
            content="I look.\n\n",
            reasoning="Cold?",
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "a JSON call",
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
            calls=(OSLO,),
            tools=TOOLS,
        ),
        Sample(
            "cut off in thinking",
            "Cold? I <tool_call>\n<function=get_w",
            reasoning="Cold? I <tool_call>\n<function=get_w",
            prompt_tail="<think>\n",
            tools=TOOLS,
        ),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return in_turn(chain("<tool_call>\n", function_xml_calls(tools), "\n</tool_call>"), choice, "\n")


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [Qwen35Parser]
