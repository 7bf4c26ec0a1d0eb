"""Gemma 4: reasoning in a channel, calls in a notation that is not JSON."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser

from mlx_host_parser_gemma4.notation import GemmaCalls
from mlx_host_parser_gemma4.reading import Tokens


class Gemma4Parser(MarkupParser):
    name = "gemma4"
    reads = "reasoning channel and calls of Gemma 4"
    templates = (("<|tool_call>", "<tool_call|>"), ("<|channel>", "<channel|>"))
    think_open = ("<|channel>thought", "<|channel>")
    think_close = ("<channel|>",)
    noise = ("<turn|>", "<|tool_response>", "<eos>")
    calls = (GemmaCalls(Tokens("<|tool_call>", "<tool_call|>", '<|"|>', '"', ("<turn|>", "<|tool_response>"))),)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Gemma4Parser]
