"""MiniMax-M3: calls as elements with a token before each tag, reasoning in `<mm:think>`."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import CallBlock, MarkupParser, Parser

from mlx_host_parser_minimax_m3.notation import INVOKE, NS, MiniMaxM3Call


class MiniMaxM3Parser(MarkupParser):
    name = "minimax_m3"
    description = "calls of MiniMax-M3, reasoning in <mm:think>"
    template_signatures = ((NS, "<tool_call>", "invoke name="), (NS, "mm:think"))
    think_open = ("<mm:think>",)
    think_close = ("</mm:think>",)
    ignored_tokens = ("[e~[",)
    calls = (
        CallBlock(
            f"{NS}<tool_call>",
            MiniMaxM3Call(),
            f"{NS}</tool_call>",
            gap="\n",
            bare_starts=(INVOKE,),
            other_openers=("<tool_call>",),
            other_closers=("</tool_call>",),
        ),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [MiniMaxM3Parser]
