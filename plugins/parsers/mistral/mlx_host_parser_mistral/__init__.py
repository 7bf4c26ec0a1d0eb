"""Mistral, Magistral, Ministral and Devstral: calls in `[TOOL_CALLS]`, reasoning in `[THINK]` or `<think>`."""

from __future__ import annotations

import secrets
import string

from mlx_host import hookimpl
from mlx_host.parsing import MarkupParser, Parser

from mlx_host_parser_mistral.notation import ArrayCalls, NamedCalls


class MistralParser(MarkupParser):
    name = "mistral"
    aliases = ("magistral", "ministral", "devstral")
    description = "reasoning and calls of Mistral, Magistral, Ministral and Devstral, old and new"
    think_open = ("[THINK]", "<think>")
    think_close = ("[/THINK]", "</think>")
    ignored_tokens = ("</s>",)
    calls = (NamedCalls(), ArrayCalls())

    @classmethod
    def new_call_id(cls) -> str:
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [MistralParser]
