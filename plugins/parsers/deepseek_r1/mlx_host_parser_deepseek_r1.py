"""DeepSeek-R1 and its distillations: reasoning in `<think>`, no calls of its own."""

from __future__ import annotations

from collections.abc import Iterable

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser, Sample


class DeepSeekR1Parser(MarkupParser):
    name = "deepseek_r1"
    reads = "reasoning in <think>: DeepSeek-R1 and others that think so; no calls"
    templates = (("<｜Assistant｜><think>\\n",), ("<｜Assistant｜>", "</think>", "<think>"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<｜end▁of▁sentence｜>",)
    samples = (
        Sample("answer", "It is 4.", content="It is 4."),
        Sample(
            "thinking opened by the prompt",
            "Two and two.\n</think>\n\nIt is 4.<｜end▁of▁sentence｜>",
            content="It is 4.",
            reasoning="Two and two.",
            prompt_tail="<｜Assistant｜><think>\n",
        ),
        Sample("thinking opened by the model", "<think>\nHm.\n</think>\n\nIt is 4.", "It is 4.", "Hm."),
        Sample("opened by both", "<think>\nHm.\n</think>\n\nIt is 4.", "It is 4.", "Hm.", prompt_tail="<think>\n"),
        Sample("cut off", "Two and tw", reasoning="Two and tw", prompt_tail="<｜Assistant｜><think>\n"),
    )


@hookimpl
def register_parsers() -> Iterable[type[Parser]]:
    return [DeepSeekR1Parser]
