"""LFM2 and LFM2.5: calls as a list of Python calls, reasoning in `<think>`."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser, PythonCalls


class Lfm2Parser(MarkupParser):
    name = "lfm2"
    aliases = ("lfm2_5", "lfm")
    description = "calls of LFM2 and LFM2.5 as Python, reasoning in <think>"
    template_signatures = (("<|tool_list_start|>",), ("<|tool_call_start|>",), ("List of tools: [",))
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|im_end|>", "<|endoftext|>")
    calls = (PythonCalls("<|tool_call_start|>", "<|tool_call_end|>"),)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Lfm2Parser]
