"""Gemma 4: reasoning in a channel, calls in Gemma's notation."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser

from mlx_host_parser_gemma4.call_parser import CallTokens
from mlx_host_parser_gemma4.notation import GemmaCalls


class Gemma4Parser(MarkupParser):
    name = "gemma4"
    description = "reasoning channel and calls of Gemma 4"
    template_signatures = (("<|tool_call>", "<tool_call|>"), ("<|channel>", "<channel|>"))
    think_open = ("<|channel>thought", "<|channel>")
    think_close = ("<channel|>",)
    ignored_tokens = ("<turn|>", "<|tool_response>", "<eos>")
    calls = (GemmaCalls(CallTokens("<|tool_call>", "<tool_call|>", '<|"|>', '"', ("<turn|>", "<|tool_response>"))),)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Gemma4Parser]
