"""GLM-4.5 to GLM-5: calls as a name with `<arg_key>` and `<arg_value>` pairs in `<tool_call>`, reasoning in `<think>`.

GLM-4.5 and 4.6 put a newline after each tag, 4.7 and later do not; both are accepted.
"""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, Repeat, chain, one_of
from mlx_host.parsing import EitherNotation, JsonCall, MarkupParser, Parser, TaggedCalls

from mlx_host_parser_glm4_moe.notation import GlmCall


class Glm4MoeParser(MarkupParser):
    name = "glm4_moe"
    aliases = ("glm45", "glm4", "glm46", "glm47", "glm47_flash", "glm5", "ling3")
    description = "reasoning and calls of GLM-4.5, 4.6, 4.7 and 5, and of Ling 3"
    template_signatures = (("<tool_call>", "<arg_key>", "</arg_key>", "<arg_value>"),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|user|>", "<|observation|>", "<|endoftext|>", "<|begin_of_box|>", "<|end_of_box|>")
    calls = (
        TaggedCalls("<tool_call>", EitherNotation(GlmCall("\n"), JsonCall()), "</tool_call>", between="\n"),
        TaggedCalls("<tool_call>", EitherNotation(GlmCall(""), JsonCall()), "</tool_call>"),
    )

    def reasoning_grammar(self) -> Grammar:
        """Allow a newline before the reasoning, which GLM-4.5 and 4.6 write."""
        match super().reasoning_grammar():
            case Repeat(reasoning):
                return Repeat(one_of(reasoning, chain("\n", reasoning)), 0, 1)
            case other:
                return other


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Glm4MoeParser]
