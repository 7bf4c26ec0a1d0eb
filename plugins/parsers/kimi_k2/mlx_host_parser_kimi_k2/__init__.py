"""Kimi K2 to K2.6: calls with an id each in a section of special tokens, reasoning in `<think>`.

The template prints a call's id, `functions.NAME:NUMBER`, and refers to it with the result: it goes to the client as is.
"""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import CallBlock, MarkupParser, Parser

from mlx_host_parser_kimi_k2.notation import BEGIN, KimiCall


class KimiK2Parser(MarkupParser):
    name = "kimi_k2"
    aliases = ("kimi_k25",)
    reads = "reasoning and calls of Kimi K2, K2-Thinking, K2.5 and K2.6"
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|im_end|>", "[EOS]")
    # Models sometimes forget the plural, or the whole section.
    calls = (
        CallBlock(
            "<|tool_calls_section_begin|>",
            KimiCall(),
            "<|tool_calls_section_end|>",
            bare=(BEGIN,),
            other_openers=("<|tool_call_section_begin|>",),
            other_closers=("<|tool_call_section_end|>",),
        ),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [KimiK2Parser]
