"""Qwen3-Coder: calls as `<function=…>` with `<parameter=…>` in `<tool_call>`; no reasoning."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import EitherNotation, FunctionXml, JsonCall, MarkupParser, Parser, TaggedCalls


class Qwen3CoderParser(MarkupParser):
    name = "qwen3_coder"
    aliases = ("qwen3_xml", "qwen3_coder_xml")
    description = "XML calls of Qwen3-Coder and models with the same format"
    template_signatures = (("<tool_call>\\n<function=", "<parameter="), ("<tool_call>\n<function=", "<parameter="))
    ignored_tokens = ("<|im_end|>", "<|endoftext|>")
    calls = (
        TaggedCalls(
            "<tool_call>",
            # Qwen3-Coder falls back to JSON in long sessions.
            EitherNotation(FunctionXml(), JsonCall()),
            "</tool_call>",
            gap="\n",
            between="\n",
            bare_starts=FunctionXml().starts,
        ),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Qwen3CoderParser]
