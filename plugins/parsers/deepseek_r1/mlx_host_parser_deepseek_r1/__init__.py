"""DeepSeek-R1 and its distillations: reasoning in `<think>`, no tool calls."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser


class DeepSeekR1Parser(MarkupParser):
    name = "deepseek_r1"
    description = "reasoning in <think>, no calls: DeepSeek-R1, its distillations and similar models"
    template_signatures = (("<｜Assistant｜><think>\\n",), ("<｜Assistant｜>", "</think>", "<think>"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<｜end▁of▁sentence｜>",)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [DeepSeekR1Parser]
