"""DeepSeek-V3.2: calls in DSML, its markup language, reasoning in `<think>`."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser

from mlx_host_parser_deepseek_v32.dsml import DsmlCalls


class DeepSeekV32Parser(MarkupParser):
    name = "deepseek_v32"
    aliases = ("deepseekv32",)
    description = "calls of DeepSeek-V3.2 in DSML, reasoning in <think>"
    template_signatures = (("｜DSML｜", "function_calls", "invoke", "parameter"),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<｜end▁of▁sentence｜>",)
    calls = (DsmlCalls("function_calls"),)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [DeepSeekV32Parser]
