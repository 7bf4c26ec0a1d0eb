"""Qwen3: reasoning in `<think>`, JSON calls in `<tool_call>`; Qwen3-Coder's XML calls under the same model types."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import EitherNotation, FunctionXml, JsonCall, MarkupParser, Parser, TaggedCalls


class Qwen3Parser(MarkupParser):
    name = "qwen3"
    aliases = ("qwen3_moe", "qwen3_next", "qwen3_vl")
    description = "Qwen3, Qwen3-Next and Qwen3-VL, with or without reasoning; Qwen3-Coder with these model types"
    template_signatures = (
        ("<tool_call>", "tool_call.name", "<think>"),
        ("<tool_call>", "tool_call['name']", "<think>"),
    )
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|im_end|>", "<|endoftext|>")
    calls = (
        TaggedCalls("<tool_call>", EitherNotation(JsonCall(), FunctionXml()), "</tool_call>", gap="\n", between="\n"),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Qwen3Parser]
