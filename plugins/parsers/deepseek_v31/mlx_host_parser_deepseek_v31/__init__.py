"""DeepSeek-V3.1: calls as a name and JSON between DeepSeek-V3's tokens, reasoning in `<think>`."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser
from mlx_host_parser_deepseek_v3.notation import BEGIN, SEPARATOR, V31_CALLS


class DeepSeekV31Parser(MarkupParser):
    name = "deepseek_v31"
    aliases = ("deepseekv31",)
    description = "calls of DeepSeek-V3.1 as JSON without a fence, reasoning in <think>"
    template_signatures = ((BEGIN, SEPARATOR),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<｜end▁of▁sentence｜>",)
    calls = (V31_CALLS,)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [DeepSeekV31Parser]
