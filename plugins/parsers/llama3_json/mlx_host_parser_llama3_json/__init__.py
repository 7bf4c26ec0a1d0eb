"""Llama 3.1 to 4: an output that is a JSON object with a name and parameters is a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host import hookimpl
from mlx_host.grammar import FreeText, Grammar, Repeat, TextThrough, chain, merge_literals, one_of, strip_prefix
from mlx_host.parsing import (
    CallFormat,
    CallStart,
    CallValues,
    JsonCall,
    MarkupParser,
    Parser,
    ScanGenerator,
    Scanner,
    ToolChoice,
    ToolFunction,
    one_or_more,
    read_json,
)

_TAG = "<|python_tag|>"
_CALL = JsonCall("parameters")
_PROMPT = '{"name": function name, "parameters": dictionary of argument name and its value}'
# Escape sequences may spell the same keys.
_LIKE_A_CALL = r'\s*\{(?s:.*)(?:"name"|"function"|\\u)(?s:.*)'


@dataclass(frozen=True)
class LlamaCalls(CallFormat):
    """JSON calls separated by semicolons, after `tag` or, if it is empty, at the start of the output."""

    tag: str = ""

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return (CallStart(self.tag) if self.tag else CallStart("{", inclusive=True, leading=True),)

    @property
    def syntax(self) -> tuple[str, ...]:
        return (";",)

    def read(self, s: Scanner) -> ScanGenerator[None]:
        separator = ";"
        while separator:
            raw = yield from read_json(s, first="{")
            if not s.emit_json_call(raw, need_arguments=True):
                return
            yield from s.space()
            separator = yield from s.optional(";")

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        call = one_of(*(_CALL.grammar(function, choice) for function in functions))
        return chain(self.tag, one_or_more(call, choice, "; "))

    def write(self, calls: Sequence[CallValues]) -> str:
        return self.tag + "; ".join(_CALL.write(*call) for call in calls)


class Llama3JsonParser(MarkupParser):
    name = "llama3_json"
    aliases = ("llama3", "llama4_json")
    description = "JSON calls of Llama 3.1, 3.2, 3.3 and 4"
    template_signatures = ((_TAG,), (_PROMPT,))
    ignored_tokens = ("<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|eom|>", "<|end_of_text|>")
    calls = (LlamaCalls(), LlamaCalls(_TAG))

    def text_with_calls(self, calls: Grammar, choice: ToolChoice) -> Grammar:
        """Return the grammar of text in which a leading JSON object is a call or does not resemble one."""
        # With several literals per call the lexer would match their beginnings as text.
        calls = merge_literals(calls)
        tagged = strip_prefix(calls, _TAG) or calls
        text = FreeText(excluding=(_TAG,), not_matching=(_LIKE_A_CALL,))
        call = one_of(calls, chain(TextThrough((_TAG,), not_matching=(_LIKE_A_CALL,)), tagged))
        return chain(Repeat(call, 0, None if choice.parallel else 1), text)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Llama3JsonParser]
