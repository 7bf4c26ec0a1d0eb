"""Phi-4-mini: calls as a JSON array behind the word `functools`, or in tokens; Phi-4-reasoning thinks in `<think>`."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import JsonArrayCalls, MarkupParser, Parser


class Phi4Parser(MarkupParser):
    name = "phi4"
    aliases = ("phi4_mini_json", "phi4_mini")
    reads = "calls of Phi-4-mini, reasoning of Phi-4-reasoning"
    templates = (("<|tool|>", "<|/tool|>"), ("functools[",), ("<|tool_call|>", "<|/tool_call|>"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|end|>", "<|endoftext|>")
    # With its bracket, so that text about the Python module functools is not held back.
    calls = (JsonArrayCalls("functools", bracket=True), JsonArrayCalls("<|tool_call|>", "<|/tool_call|>"))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Phi4Parser]
