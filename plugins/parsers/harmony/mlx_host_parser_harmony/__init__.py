"""The harmony format of gpt-oss: messages with a channel each; a call is a message to a recipient.

    output     = header , text , { end , "<|start|>" , header , text } , [ end ] ;
    header     = [ role ] , [ recipient ] , "<|channel|>" , channel , [ recipient ] ,
                 [ " " , [ "<|constrain|>" ] , "json" ] , "<|message|>" ;
    recipient  = " to=" , ( "functions." , NAME | "assistant" | "user" | "all" ) ;
    channel    = "analysis" | "commentary" | "final" ;
    end        = "<|end|>" | "<|call|>" | "<|return|>" | "<|endoftext|>" ;

The output begins in a header, since the generation prompt ends in `<|start|>assistant`. A header is parsed completely
before any part of its message is emitted. A message to a function is a call on any channel; if its text is not a valid
call, it is text, header included. Other malformed headers are accepted: their unexpected words are text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Concat, FreeText, Grammar, Repeat, TextThrough, chain, one_of, optional
from mlx_host.parsing import (
    CallSyntaxError,
    Content,
    Decision,
    LiteralMatcher,
    Marker,
    Parser,
    Part,
    Reasoning,
    ScanGenerator,
    Scanner,
    ToolCall,
    ToolChoice,
    check_function_name,
    read_arguments,
    tool_functions,
)
from mlx_host.requests import Json, ReasoningMarkup

_START, _CHANNEL, _CONSTRAIN, _MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|endoftext|>")
_IN_TEXT = LiteralMatcher((_START, _CHANNEL, _CONSTRAIN, _MESSAGE, *_ENDS))
_QUOTES = ("`", '"', "'")
_WORDS = ("assistant", "analysis", "commentary", "final", "json", "code", "text", "to=assistant", "to=user", "to=all")

# The model sometimes omits <|start|>.
_HEADER_STARTS = (
    *(_START, _CHANNEL, _CONSTRAIN, _MESSAGE, "to="),
    *(f"assistant{after}" for after in (_CHANNEL, f" {_CHANNEL}", _MESSAGE, " to=")),
)

_NAME = re.compile(r"[^\s<]+")
_JSON = ("json", f"{_CONSTRAIN}json")
_HEADER_TEXT = re.compile(r"[^<\n]*")
_HEADER_PIECES = re.compile(rf"(?P<known>(?:\s|<\|\w+\|>|(?:{'|'.join(_WORDS)})(?![\w.]))+)|[^<]+")
_KNOWN_CHANNEL = re.compile(r"<\|channel\|>\s*(analysis|commentary|final)(?!\w)")
_RECIPIENT = re.compile(r"(?<!\w)to=(?!(?:assistant|user|all)(?![\w.]))([^\s<]+)")


def _has_no_parameters(tools: Sequence[Json], function: str) -> bool:
    """Return whether a function is declared without parameters."""
    for tool in tools:
        declared = tool.get("function", tool)
        if isinstance(declared, Mapping) and declared.get("name") == function:
            parameters = declared.get("parameters") or {}
            return isinstance(parameters, Mapping) and not parameters.get("properties")
    return False


def _is_reasoning(header: str, default: bool) -> bool:
    channels = _KNOWN_CHANNEL.findall(header)
    return channels[-1] == "analysis" if channels else default


def _message(channel: str, body: str, end: str = "<|end|>") -> str:
    return f"{_CHANNEL}{channel}{_MESSAGE}{body}{end}"


class HarmonyParser(Parser):
    name = "harmony"
    aliases = ("openai", "gpt_oss", "openai_gptoss")
    description = "channels and calls of gpt-oss"
    template_signatures = ((_CHANNEL,),)
    signatures = (_CHANNEL, _MESSAGE)
    history_markers = (_START, _CHANNEL, _CONSTRAIN, _MESSAGE, *_ENDS)
    markers = (_START, _CHANNEL, _CONSTRAIN, _MESSAGE, *_ENDS, *_WORDS)

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
        self._scanner = Scanner(tools, repair=repair_calls)
        self._parts: list[Part] = []
        self._reader = self._parse_output(self._scanner)

    def feed(self, text: str) -> list[Part]:
        self._scanner.feed(text)
        return self._parse()

    def finish(self) -> list[Part]:
        self._scanner.ended = True
        self._scanner.truncated = self.truncated
        return self._parse()

    def _parse(self) -> list[Part]:
        self._scanner.stream.enabled = self.stream_arguments
        next(self._reader, None)
        self._parts += (self._part(decision, reasoning=False) for decision in self._scanner.take_decisions())
        parts, self._parts = self._parts, []
        return parts

    def _parse_output(self, s: Scanner) -> ScanGenerator[None]:
        opened = self.generation_prompt.rpartition(_START)[2]
        reasoning = _is_reasoning(opened, default=False)
        if _MESSAGE not in opened:
            reasoning = yield from self._header(s, reasoning)
        while found := (yield from self._body(s, reasoning)):
            if found in _ENDS:
                s.take(s.pos + len(found))
                self._put(self._marker(reasoning), s)
                reasoning = False
            reasoning = yield from self._header(s, reasoning)

    def _header(self, s: Scanner, reasoning: bool) -> ScanGenerator[bool]:
        """Parse a header, if any, and the call that it introduces; return whether the following text is reasoning."""
        start = s.mark()
        yield from s.space()
        if not (yield from s.lookahead(*_HEADER_STARTS)):
            yield from self._whitespace(s, reasoning)
            return reasoning
        yield from s.optional(_START)
        found = ""
        while found != _MESSAGE:
            yield from s.take_while(_HEADER_TEXT)
            found = yield from s.lookahead(_CHANNEL, _CONSTRAIN, _MESSAGE)
            if not found:
                break
            s.take(s.pos + len(found))
        header = s.since(start)
        reasoning = _is_reasoning(header, reasoning)
        recipient = _RECIPIENT.search(header)
        if not recipient:
            self._write_header(header, reasoning, complete=bool(found))
            s.take_source()
            return reasoning
        name = recipient[1].removeprefix("functions.")
        if self.tools and (found or (yield from s.lookahead(*_ENDS))) and (yield from self._call(s, name, reasoning)):
            yield from self._whitespace(s, reasoning)
        else:
            self._put(self._text(reasoning), s)
        return reasoning

    def _write_header(self, header: str, reasoning: bool, *, complete: bool) -> None:
        """Emit a header; unexpected words in it are reasoning if a message follows, otherwise the message itself."""
        words = self._text(reasoning or complete)
        for piece in _HEADER_PIECES.finditer(header):
            self._parts.append((self._marker(reasoning) if piece["known"] else words)(piece[0]))

    def _call(self, s: Scanner, name: str, reasoning: bool) -> ScanGenerator[bool]:
        """Parse the text of a call; return False if it is not a call."""
        yield from s.space()
        empty = bool((yield from s.lookahead(_START, _CHANNEL, *_ENDS)))
        if not (yield from s.peek()):
            # At the end of the output missing arguments mean a truncated call, unless the function has no parameters.
            empty = _has_no_parameters(self.tools, name)
        try:
            arguments = "" if empty else (yield from read_arguments(s, name, _START, _CHANNEL, *_ENDS))
        except CallSyntaxError:
            if not s.end_stream():
                return False
        else:
            s.emit_call(name, arguments)
        self._parts += (self._part(decision, reasoning) for decision in s.take_decisions())
        return True

    def _part(self, decision: Decision, reasoning: bool) -> Part:
        if decision.streamed:
            return decision.delta()
        if decision.name:
            return ToolCall(decision.name, decision.arguments, decision.source, repaired=decision.repaired)
        return self._text(reasoning)(decision.source)

    def _whitespace(self, s: Scanner, reasoning: bool) -> ScanGenerator[None]:
        """Consume whitespace: a Marker between two messages, otherwise text."""
        yield from s.space()
        between = not (yield from s.peek()) or (yield from s.lookahead(_START, _CHANNEL, *_ENDS))
        self._put(Marker if between else self._text(reasoning), s)

    def _body(self, s: Scanner, reasoning: bool) -> ScanGenerator[str]:
        """Emit text incrementally; return the marker that follows it, or "" at the end of the output.

        A quoted marker is text. Since a message may end with a quotation mark, an end marker is quoted only if the
        same quotation mark also follows it.
        """
        last = ""
        while True:
            start, end = _IN_TEXT.find(s.text, s.pos, ended=s.ended)
            if start > s.pos:
                last = s.text[start - 1]
                s.take(start)
                self._put(self._text(reasoning), s)
            if start == end:
                if s.ended:
                    return ""
                yield
                continue
            marker = s.text[start:end]
            if last not in _QUOTES or (marker in _ENDS and not (yield from s.lookahead(marker + last))):
                return marker
            last = ""
            s.take(s.pos + len(marker))
            self._put(self._text(reasoning), s)

    def _text(self, reasoning: bool) -> type[Content | Reasoning]:
        return Reasoning if reasoning and self.reasoning else Content

    def _marker(self, reasoning: bool) -> type[Content | Marker]:
        return Content if reasoning and not self.reasoning else Marker

    def _put(self, kind: type[Content | Reasoning | Marker], s: Scanner) -> None:
        if source := s.take_source():
            self._parts.append(kind(source))

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """Return the grammar of one call (the models stop after it); the recipient precedes or follows the channel."""
        calls = []
        for function in tool_functions(tools):
            recipient = f" to=functions.{check_function_name(function, _NAME)}"
            after = f"{_CHANNEL}commentary{recipient} {_CONSTRAIN}json{_MESSAGE}"
            before = one_of(*(f"{recipient}{_CHANNEL}commentary {kind}{_MESSAGE}" for kind in _JSON))
            calls.append(chain(one_of(after, before), function.json()))
        return one_of(*calls)

    @classmethod
    def write_calls(cls, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        if len(calls) != 1:
            return []
        [(name, arguments)] = calls
        body = f"json{_MESSAGE}{json.dumps(arguments, ensure_ascii=False)}"
        recipient = f" to=functions.{name}"
        return [
            f"{recipient}{_CHANNEL}commentary {body}",
            f"{_CHANNEL}commentary{recipient} {_CONSTRAIN}{body}",
        ]

    @classmethod
    def reasoning_markup(cls) -> ReasoningMarkup:
        final = f"{_ENDS[0]}{_START}assistant{_CHANNEL}final{_MESSAGE}"
        return ReasoningMarkup((f"{_CHANNEL}analysis{_MESSAGE}",), _ENDS, final)

    def reasoning_grammar(self) -> Grammar:
        """Return the grammar of analysis messages, each with the start of the next message."""
        opened = self.generation_prompt.rpartition(_START)[2]
        rest = chain(TextThrough((_ENDS[0],)), f"{_START}assistant")
        messages = Repeat(chain(_message("analysis", "", end=""), rest))
        if _MESSAGE not in opened:
            return messages
        return chain(rest, messages) if _is_reasoning(opened, default=False) else Concat()

    def output_grammar(self, calls: Grammar | None, content: Grammar | None, choice: ToolChoice) -> Grammar:
        """Return the grammar of the output: a call, optionally after commentary, or a message on the final channel."""
        text = FreeText() if content is None else content
        opened = self.generation_prompt.rpartition(_START)[2]
        if _MESSAGE in opened and not _is_reasoning(opened, default=False):
            if calls is None:
                return text
            called = chain(_ENDS[0], f"{_START}assistant", calls)
            return called if choice.required else one_of(called, text)
        final = chain(f"{_CHANNEL}final", optional(f" {_CONSTRAIN}json") if content else "", _MESSAGE, text)
        if calls is None:
            return chain(self.reasoning_grammar(), final)
        if choice.required:
            return chain(self.reasoning_grammar(), calls)
        preamble = chain(_message("commentary", "", end=""), TextThrough((_ENDS[0],)), f"{_START}assistant")
        preambles = Concat() if content else Repeat(preamble)
        return chain(self.reasoning_grammar(), one_of(chain(preambles, calls), final))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [HarmonyParser]
