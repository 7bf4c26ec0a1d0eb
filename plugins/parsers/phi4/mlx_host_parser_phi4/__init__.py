"""Phi-4-mini: calls as a JSON array after `functools` or between tokens; Phi-4-reasoning: reasoning in `<think>`."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import JsonArrayCalls, MarkupParser, Parser


class Phi4Parser(MarkupParser):
    name = "phi4"
    aliases = ("phi4_mini_json", "phi4_mini")
    description = "calls of Phi-4-mini, reasoning of Phi-4-reasoning"
    template_signatures = (("<|tool|>", "<|/tool|>"), ("functools[",), ("<|tool_call|>", "<|/tool_call|>"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|end|>", "<|endoftext|>")
    # With the bracket, so that text about the Python module functools is not delayed.
    calls = (JsonArrayCalls("functools", bracket=True), JsonArrayCalls("<|tool_call|>", "<|/tool_call|>"))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Phi4Parser]
