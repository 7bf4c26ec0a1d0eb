"""Qwen3.5, 3.6, 3.8 and models with the same format: reasoning in `<think>` and Qwen3-Coder's XML calls."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import EitherNotation, FunctionXml, JsonCall, MarkupParser, Parser, TaggedCalls


class Qwen35Parser(MarkupParser):
    name = "qwen3_5"
    aliases = ("qwen3_6", "qwen3_8", "nemotron3_nano", "nemotron3", "mimo_v2", "step3p5", "step_35", "granite4_2")
    description = "reasoning and XML calls: Qwen3.5, 3.6, 3.8, Nemotron 3, MiMo v2, Step 3.5, Granite 4.2"
    template_signatures = (
        ("<tool_call>\\n<function=", "<parameter=", "<think>"),
        ("<tool_call>\n<function=", "<parameter=", "<think>"),
    )
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|im_end|>", "<|endoftext|>")
    calls = (
        TaggedCalls(
            "<tool_call>",
            EitherNotation(FunctionXml(), JsonCall()),
            "</tool_call>",
            gap="\n",
            between="\n",
            bare_starts=FunctionXml().starts,
        ),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Qwen35Parser]
