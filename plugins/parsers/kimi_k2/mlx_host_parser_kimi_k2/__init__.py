"""Kimi K2 to K2.6: calls with ids in a section between special tokens, reasoning in `<think>`.

The chat template renders a call's id, `functions.NAME:NUMBER`, with the call and with its result, so clients receive
the id unchanged.
"""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import CallBlock, MarkupParser, Parser

from mlx_host_parser_kimi_k2.notation import BEGIN, SECTION_ENDS, KimiCall


class KimiK2Parser(MarkupParser):
    name = "kimi_k2"
    aliases = ("kimi_k25",)
    description = "reasoning and calls of Kimi K2, K2-Thinking, K2.5 and K2.6"
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|im_end|>", "[EOS]")
    # Models sometimes write the singular, or omit the section's tokens.
    calls = (
        CallBlock(
            "<|tool_calls_section_begin|>",
            KimiCall(),
            SECTION_ENDS[0],
            bare_starts=(BEGIN,),
            other_openers=("<|tool_call_section_begin|>",),
            other_closers=SECTION_ENDS[1:],
        ),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [KimiK2Parser]
