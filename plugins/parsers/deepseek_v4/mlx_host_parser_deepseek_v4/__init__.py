"""DeepSeek-V4 and V4.1: calls in DSML as V3.2 writes it, but for the name of the block's tag and V4.1's spaces."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser
from mlx_host_parser_deepseek_v32.dsml import DsmlCalls


class DeepSeekV4Parser(MarkupParser):
    name = "deepseek_v4"
    aliases = ("deepseekv4", "deepseek_v41", "deepseekv41")
    reads = "calls of DeepSeek-V4 and V4.1 in DSML, reasoning in <think>"
    templates = (
        ("｜DSML｜", "tool_calls", "invoke", "parameter"),
        ("｜DSML｜", " calls>", " invoke", " parameter"),
    )
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<｜end▁of▁sentence｜>",)
    calls = (DsmlCalls("tool_calls"), DsmlCalls("calls", gap=" ", newline=""))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [DeepSeekV4Parser]
