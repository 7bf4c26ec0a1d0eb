"""Qwen3-Coder: calls as `<function=…>` with `<parameter=…>` in `<tool_call>`; it does not think."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import FunctionXml, MarkupParser, Parser, TaggedCalls


class Qwen3CoderParser(MarkupParser):
    name = "qwen3_coder"
    aliases = ("qwen3_xml", "qwen3_coder_xml")
    reads = "XML calls of Qwen3-Coder and those trained like it"
    templates = (("<tool_call>\\n<function=", "<parameter="), ("<tool_call>\n<function=", "<parameter="))
    noise = ("<|im_end|>", "<|endoftext|>")
    calls = (
        TaggedCalls("<tool_call>", FunctionXml(), "</tool_call>", gap="\n", between="\n", bare=FunctionXml().begins),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Qwen3CoderParser]
