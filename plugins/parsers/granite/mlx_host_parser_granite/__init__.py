"""Granite 3 and 4.0: calls as JSON behind a token or in tags; reasoning in tags, or announced in words as 3.2 does.

Granite 4.2 writes as Qwen3.5 does, and has that family's parser.
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

_THOUGHTS = ("Here is my thought process:", "Here's my thought process:")
_RESPONSE = ("Here is my response:", "Here's my response:")
_END_RESPONSE = "</response>"


class GraniteParser(MarkupParser):
    name = "granite"
    aliases = ("granite3", "granite_20b_fc")
    reads = "reasoning and calls of Granite 3, calls of Granite 4.0"
    templates = (
        ("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
        ("<|start_of_role|>", "<|end_of_role|>", "<tool_call>"),
        ("<|start_of_role|>available_tools<|end_of_role|>",),
        ("<|start_of_role|>", "<|end_of_role|>", "Here is my thought process:"),
    )
    think_open = ("<think>", *_THOUGHTS)
    think_close = ("</think>", "</think><response>", "</think>\n<response>", "</think>\n\n<response>", *_RESPONSE)
    noise = ("<|end_of_text|>", _END_RESPONSE)
    calls = (
        JsonArrayCalls("<|tool_call|>"),
        TaggedCalls("<tool_call>", JsonCall(), "</tool_call>", gap="\n", between="\n"),
        JsonArrayCalls("<tool_call>"),
        ReadOnlyCalls(TaggedCalls("<function_call>", JsonCall(), "</function_call>")),
    )
    # Without the words, which any output may contain.
    telltales = ("<|tool_call|>", "<tool_call>", "<function_call>", "<think>", "</think>")

    def __init__(self, *, generation_prompt: str = "", tools: Sequence[Json] = (), reasoning: bool = True) -> None:
        super().__init__(generation_prompt=generation_prompt, tools=tools, reasoning=reasoning)
        self._in_response = False

    def counts(self, marker: str, *, thinking: bool, fresh: bool) -> bool:
        """The words open thinking only at the beginning, and `</response>` closes only what was opened."""
        if marker in _THOUGHTS:
            return fresh
        if marker in _RESPONSE:
            return thinking
        if marker == _END_RESPONSE:
            return self._in_response
        self._in_response = self._in_response or marker.endswith("<response>")
        return True

    def constrained(self, calls: Grammar | None, form: Grammar | None, choice: ToolChoice) -> Grammar:
        """Allow the response in its own tag after reasoning in tags, too."""
        answer = super().constrained(calls, form, choice)
        if form is None or not self.reasoning or "</think>" in self.generation_prompt:
            return answer
        inside = self._opens_inside(self.generation_prompt)
        thoughts = TextThrough(("</think>",), unless=(f"(?s:.*)(?:{'|'.join(_RESPONSE)})(?s:.*)",))
        tagged = chain(one_of("", "\n", "\n\n"), "<response>", form, _END_RESPONSE)
        return one_of(answer, chain("" if inside else "<think>", thoughts, tagged))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [GraniteParser]
