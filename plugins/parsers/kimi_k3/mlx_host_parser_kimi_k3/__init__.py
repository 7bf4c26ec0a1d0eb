"""Kimi K3: its XML of special tokens, with an element each for reasoning, response and calls.

The output begins inside the element that the prompt opened, `think` or `response`.
"""

from __future__ import annotations

import re

from mlx_host import hookimpl
from mlx_host.grammar import Concat, FreeText, Grammar, TextThrough, chain, one_of, optional, strip_prefix
from mlx_host.parsing import CallBlock, MarkupParser, Parser, ToolChoice

from mlx_host_parser_kimi_k3.notation import CALL, KimiK3Call

_TOOLS, _TOOLS_END = "<|open|>tools<|sep|>", "<|close|>tools<|sep|>"
_THINK, _THINK_END = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
_RESPONSE, _RESPONSE_END = "<|open|>response<|sep|>", "<|close|>response<|sep|>"
_MESSAGE_CLOSE = "<|close|>message<|sep|>"


class KimiK3Parser(MarkupParser):
    name = "kimi_k3"
    reads = "reasoning and calls of Kimi K3"
    templates = (("<|open|>",),)
    think_open = (_THINK,)
    # The opening tag of the response ends the reasoning, too: the model forgets to close it.
    think_close = (_THINK_END, _RESPONSE)
    noise = (_RESPONSE_END, _MESSAGE_CLOSE, "<|end_of_msg|>", "[EOS]")
    calls = (CallBlock(_TOOLS, KimiK3Call(), _TOOLS_END, bare=(CALL,)),)

    def thinking(self) -> Grammar:
        """Allow the opening tag of the response after the reasoning."""
        thoughts = chain(TextThrough((_THINK_END,)), optional(_RESPONSE))
        if self._opens_inside(self.generation_prompt):
            return thoughts
        return Concat() if _RESPONSE in self.generation_prompt else one_of(chain(_THINK, thoughts), optional(_RESPONSE))

    def constrained(self, calls: Grammar | None, form: Grammar | None, choice: ToolChoice) -> Grammar:
        """State calls after the response, and the end of the message."""
        told = None if form is None else chain(form, optional(_RESPONSE_END))
        called = chain(optional(_RESPONSE_END), calls or Concat())
        if calls is None:
            body = told or FreeText()
        elif choice.required:
            body = called
        elif told is None:
            free = chain(FreeText(without=self.openers), optional(_RESPONSE_END))
            before = TextThrough((_RESPONSE_END + _TOOLS, _TOOLS), unless=(f"(?s:.*){re.escape(CALL)}(?s:.*)",))
            body = one_of(free, chain(before, strip_prefix(calls, _TOOLS) or Concat()))
        else:
            body = one_of(called, told)
        return chain(self.thinking(), body, optional(_MESSAGE_CLOSE))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [KimiK3Parser]
