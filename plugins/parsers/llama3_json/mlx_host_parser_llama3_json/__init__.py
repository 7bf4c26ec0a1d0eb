"""Llama 3.1 to 4: an output that is a JSON object with a name and parameters is a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_host import hookimpl
from mlx_host.grammar import FreeText, Grammar, Repeat, TextThrough, chain, merge_literals, one_of, strip_prefix
from mlx_host.parsing import (
    BareJsonCalls,
    CallFormat,
    CallStart,
    CallValues,
    JsonCall,
    MarkupParser,
    Parser,
    PythonCalls,
    ReadOnlyCalls,
    ScanGenerator,
    Scanner,
    ToolChoice,
    ToolFunction,
    one_or_more,
)

_TAG = "<|python_tag|>"
_CALL = JsonCall("parameters")
_BARE = BareJsonCalls(any_leading=True)
_PYTHON = PythonCalls()
_PROMPT = '{"name": function name, "parameters": dictionary of argument name and its value}'


@dataclass(frozen=True)
class LlamaCalls(CallFormat):
    """JSON calls separated by semicolons, after `tag` or, if it is empty, at the start of the output or of a line."""

    tag: str = ""

    @property
    def call_starts(self) -> tuple[CallStart, ...]:
        return (CallStart(self.tag),) if self.tag else _BARE.call_starts

    @property
    def syntax(self) -> tuple[str, ...]:
        return (";",)

    @property
    def lookalikes(self) -> tuple[str, ...]:
        return () if self.tag else _BARE.lookalikes

    def read(self, s: Scanner) -> ScanGenerator[None]:
        if self.tag:
            yield from s.space()
        yield from (_PYTHON if self.tag and (yield from s.lookahead("[")) else _BARE).read(s)

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
    calls = (LlamaCalls(), LlamaCalls(_TAG), ReadOnlyCalls(_PYTHON))

    def text_with_calls(self, calls: Grammar, choice: ToolChoice) -> Grammar:
        """Return the grammar of text in which a leading JSON object is a call or does not resemble one."""
        # With several literals per call the lexer would match their beginnings as text.
        calls = merge_literals(calls)
        tagged = strip_prefix(calls, _TAG) or calls
        lookalikes = self.call_lookalikes()
        text = FreeText(excluding=(_TAG,), not_matching=lookalikes)
        call = one_of(calls, chain(TextThrough((_TAG,), not_matching=lookalikes), tagged))
        return chain(Repeat(call, 0, None if choice.parallel else 1), text)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [Llama3JsonParser]
