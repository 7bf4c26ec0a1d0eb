"""DeepSeek-V4 and V4.1: calls in DSML as in V3.2, except for the name of the block and, in V4.1, a space in tags."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser
from mlx_host_parser_deepseek_v32.dsml import DsmlCalls


class DeepSeekV4Parser(MarkupParser):
    name = "deepseek_v4"
    aliases = ("deepseekv4", "deepseek_v41", "deepseekv41")
    description = "calls of DeepSeek-V4 and V4.1 in DSML, reasoning in <think>"
    template_signatures = (
        ("｜DSML｜", "tool_calls", "invoke", "parameter"),
        ("｜DSML｜", " calls>", " invoke", " parameter"),
    )
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<｜end▁of▁sentence｜>",)
    calls = (DsmlCalls("tool_calls"), DsmlCalls("calls", gap=" ", newline=""))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [DeepSeekV4Parser]
