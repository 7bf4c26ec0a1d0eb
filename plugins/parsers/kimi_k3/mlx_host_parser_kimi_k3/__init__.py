"""Kimi K3: XML-like elements made of special tokens, one each for reasoning, content and calls.

The output begins inside the element that the prompt opens, `think` or `response`. Notation of the calls: notation.py.

    output     = [ reasoning ] , [ response ] , [ tools ] , [ close("message") ] ;
    reasoning  = [ open("think") ] , text , close("think") ;
    response   = [ open("response") ] , text , [ close("response") ] ;
    tools      = open("tools") , { call } , close("tools") ;
    open(NAME)  = "<|open|>" , NAME , "<|sep|>" ;
    close(NAME) = "<|close|>" , NAME , "<|sep|>" ;

The model sometimes omits `close("think")`, `open("tools")` and `close("tools")`; such outputs are accepted.
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
    description = "reasoning and calls of Kimi K3"
    template_signatures = (("<|open|>",),)
    think_open = (_THINK,)
    # The opening tag of the response also ends the reasoning: the model sometimes omits the closing tag.
    think_close = (_THINK_END, _RESPONSE)
    ignored_tokens = (_RESPONSE_END, _MESSAGE_CLOSE, "<|end_of_msg|>", "[EOS]")
    calls = (CallBlock(_TOOLS, KimiK3Call(), _TOOLS_END, bare_starts=(CALL,)),)

    def reasoning_grammar(self) -> Grammar:
        """Allow the opening tag of the response after the reasoning."""
        reasoning = chain(TextThrough((_THINK_END,)), optional(_RESPONSE))
        if self.starts_in_reasoning:
            return reasoning
        if _RESPONSE in self.generation_prompt:
            return Concat()
        return one_of(chain(_THINK, reasoning), optional(_RESPONSE))

    def output_grammar(self, calls: Grammar | None, content: Grammar | None, choice: ToolChoice) -> Grammar:
        """Return the grammar of the output: calls follow the response, and the message may be closed."""
        response = None if content is None else chain(content, optional(_RESPONSE_END))
        tools = chain(optional(_RESPONSE_END), calls or Concat())
        if calls is None:
            body = response or FreeText()
        elif choice.required:
            body = tools
        elif response is None:
            free = chain(FreeText(excluding=self.call_starts), optional(_RESPONSE_END))
            before = TextThrough((_RESPONSE_END + _TOOLS, _TOOLS), not_matching=(f"(?s:.*){re.escape(CALL)}(?s:.*)",))
            body = one_of(free, chain(before, strip_prefix(calls, _TOOLS) or Concat()))
        else:
            body = one_of(tools, response)
        return chain(self.reasoning_grammar(), body, optional(_MESSAGE_CLOSE))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [KimiK3Parser]
