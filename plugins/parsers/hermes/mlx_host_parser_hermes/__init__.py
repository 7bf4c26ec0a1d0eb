"""Hermes and other models that write calls as JSON in `<tool_call>`: SmolLM3, Qwen2.5, Granite 4.0."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import BareJsonCalls, JsonCall, MarkupParser, Parser, ReadOnlyCalls, TaggedCalls


class HermesParser(MarkupParser):
    name = "hermes"
    aliases = ("qwen", "qwen25", "smollm3", "granite4")
    description = "JSON calls in <tool_call>, reasoning in <think>: Hermes, Qwen2.5, SmolLM3, Granite 4.0"
    template_signatures = (("<tool_call>", "tool_call.name"), ("<tool_call>", "tool_call['name']"))
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|im_end|>", "<|endoftext|>", "<|end_of_text|>")
    calls = (
        TaggedCalls("<tool_call>", JsonCall(), "</tool_call>", gap="\n", between="\n"),
        # Qwen2.5-Coder writes calls in the tag of its tools, or without a tag.
        ReadOnlyCalls(TaggedCalls("<tools>", JsonCall(), "</tools>")),
        BareJsonCalls(),
    )


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [HermesParser]
