"""DeepSeek-V3 and R1-0528: calls as fenced JSON between special tokens; reasoning in `<think>` (R1)."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser

from mlx_host_parser_deepseek_v3.notation import BEGIN, SEPARATOR, V3_CALLS


class DeepSeekV3Parser(MarkupParser):
    name = "deepseek_v3"
    aliases = ("deepseekv3",)
    description = "calls of DeepSeek-V3 and R1-0528 as fenced JSON, reasoning in <think>"
    template_signatures = ((BEGIN, SEPARATOR, "```json"),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<｜end▁of▁sentence｜>",)
    calls = (V3_CALLS,)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [DeepSeekV3Parser]
