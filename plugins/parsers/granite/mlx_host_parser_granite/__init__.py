"""Granite 3 and 4.0: JSON calls after a token or in tags; reasoning in tags, or after introductory phrases (3.2).

Granite 4.2 uses the format of Qwen3.5 and that family's parser.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, TextThrough, chain, one_of
from mlx_host.parsing import (
    JsonArrayCalls,
    JsonCall,
    MarkupParser,
    Parser,
    ReadOnlyCalls,
    TaggedCalls,
    ToolChoice,
)
from mlx_host.requests import Json

_REASONING_PHRASES = ("Here is my thought process:", "Here's my thought process:")
_RESPONSE_PHRASES = ("Here is my response:", "Here's my response:")
_END_RESPONSE = "</response>"


class GraniteParser(MarkupParser):
    name = "granite"
    aliases = ("granite3", "granite_20b_fc")
    description = "reasoning and calls of Granite 3, calls of Granite 4.0"
    template_signatures = (
        ("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
        ("<|start_of_role|>", "<|end_of_role|>", "<tool_call>"),
        ("<|start_of_role|>available_tools<|end_of_role|>",),
        ("<|start_of_role|>", "<|end_of_role|>", "Here is my thought process:"),
    )
    think_open = ("<think>", *_REASONING_PHRASES)
    think_close = (
        "</think>",
        "</think><response>",
        "</think>\n<response>",
        "</think>\n\n<response>",
        *_RESPONSE_PHRASES,
    )
    ignored_tokens = ("<|end_of_text|>", _END_RESPONSE)
    calls = (
        JsonArrayCalls("<|tool_call|>"),
        TaggedCalls("<tool_call>", JsonCall(), "</tool_call>", gap="\n", between="\n"),
        JsonArrayCalls("<tool_call>"),
        ReadOnlyCalls(TaggedCalls("<function_call>", JsonCall(), "</function_call>")),
    )
    # Without the phrases, which any output may contain.
    signatures = ("<|tool_call|>", "<tool_call>", "<function_call>", "<think>", "</think>")

    def __init__(
        self,
        *,
        generation_prompt: str = "",
        tools: Sequence[Json] = (),
        reasoning: bool = True,
        repair_calls: bool = True,
    ) -> None:
        super().__init__(
            generation_prompt=generation_prompt, tools=tools, reasoning=reasoning, repair_calls=repair_calls
        )
        self._in_response = False

    def is_marker(self, marker: str, *, in_reasoning: bool, at_content_start: bool) -> bool:
        """Accept the phrases only at the start of content, and `</response>` only after `<response>`."""
        if marker in _REASONING_PHRASES:
            return at_content_start
        if marker in _RESPONSE_PHRASES:
            return in_reasoning
        if marker == _END_RESPONSE:
            return self._in_response
        self._in_response = self._in_response or marker.endswith("<response>")
        return True

    def output_grammar(self, calls: Grammar | None, content: Grammar | None, choice: ToolChoice) -> Grammar:
        """Also allow the content in a `<response>` tag after reasoning in tags."""
        output = super().output_grammar(calls, content, choice)
        if content is None or not self.reasoning or "</think>" in self.generation_prompt:
            return output
        reasoning = TextThrough(("</think>",), not_matching=(f"(?s:.*)(?:{'|'.join(_RESPONSE_PHRASES)})(?s:.*)",))
        tagged = chain(one_of("", "\n", "\n\n"), "<response>", content, _END_RESPONSE)
        return one_of(output, chain("" if self.starts_in_reasoning else "<think>", reasoning, tagged))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [GraniteParser]
