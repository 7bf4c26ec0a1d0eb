"""FunctionGemma: calls in Gemma 4's notation, with other tokens; no reasoning."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser
from mlx_host_parser_gemma4.call_parser import CallTokens
from mlx_host_parser_gemma4.notation import GemmaCalls

TOKENS = CallTokens(
    opener="<start_function_call>",
    closer="<end_function_call>",
    delimiter="<escape>",
    inner="<escape>",
    stops=("<end_of_turn>", "<start_function_response>"),
)


class FunctionGemmaParser(MarkupParser):
    name = "function_gemma"
    aliases = ("functiongemma",)
    description = "calls of FunctionGemma"
    ignored_tokens = TOKENS.stops
    calls = (GemmaCalls(TOKENS),)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [FunctionGemmaParser]
