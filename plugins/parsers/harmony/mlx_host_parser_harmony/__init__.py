"""Harmony, what gpt-oss writes: messages with a channel each, and calls as messages to a recipient.

    [ to=R]<|channel|>C[ to=R][ <|constrain|>json]<|message|>BODY<|end|><|start|>assistant…

The answer begins in a header, since the prompt ends in `<|start|>assistant`. A header is known in full before any of
its message is told. A message to a recipient is a call on any channel; where it makes none, it is text, header and all.
No other mistake in a header keeps its message from being read; words that should not stand there are told as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.grammar import Concat, FreeText, Grammar, Repeat, TextThrough, chain, one_of, optional
from mlx_host.parsing import (
    Content,
    Literals,
    Marker,
    NotACall,
    Parser,
    Part,
    Reading,
    Reasoning,
    Scanner,
    ToolCall,
    ToolChoice,
    functions,
    named,
    read_json,
)
from mlx_host.requests import Json

_START, _CHANNEL, _CONSTRAIN, _MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|endoftext|>")
_IN_TEXT = Literals((_START, _CHANNEL, _CONSTRAIN, _MESSAGE, *_ENDS))
_QUOTES = ("`", '"', "'")
_WORDS = ("assistant", "analysis", "commentary", "final", "json", "code", "text", "to=assistant", "to=user", "to=all")

_NAME = re.compile(r"[^\s<]+")
_JSON = ("json", f"{_CONSTRAIN}json")
_HEADER_TEXT = re.compile(r"[^<\n]*")
_HEADER_PIECES = re.compile(rf"(?P<known>(?:\s|<\|\w+\|>|(?:{'|'.join(_WORDS)})(?![\w.]))+)|[^<]+")
_KNOWN_CHANNEL = re.compile(r"<\|channel\|>\s*(analysis|commentary|final)(?!\w)")
_RECIPIENT = re.compile(r"(?<!\w)to=(?!(?:assistant|user|all)(?![\w.]))([^\s<]+)")


def _takes_nothing(tools: Sequence[Json], function: str) -> bool:
    """Whether a function is declared, and without parameters."""
    for tool in tools:
        declared = tool.get("function", tool)
        if isinstance(declared, Mapping) and declared.get("name") == function:
            parameters = declared.get("parameters") or {}
            return isinstance(parameters, Mapping) and not parameters.get("properties")
    return False


def _thinks(header: str, so_far: bool) -> bool:
    channels = _KNOWN_CHANNEL.findall(header)
    return channels[-1] == "analysis" if channels else so_far


def _message(channel: str, body: str, end: str = "<|end|>") -> str:
    return f"{_CHANNEL}{channel}{_MESSAGE}{body}{end}"


class HarmonyParser(Parser):
    name = "harmony"
    aliases = ("openai", "gpt_oss", "openai_gptoss")
    reads = "channels and calls of gpt-oss"
    templates = ((_CHANNEL,),)
    markers = (_START, _CHANNEL, _CONSTRAIN, _MESSAGE, *_ENDS, *_WORDS)

    def __init__(self, *, generation_prompt: str = "", tools: Sequence[Json] = (), reasoning: bool = True) -> None:
        super().__init__(generation_prompt=generation_prompt, tools=tools, reasoning=reasoning)
        self._scanner = Scanner(tools)
        self._parts: list[Part] = []
        self._reading = self._answer(self._scanner)

    def feed(self, text: str) -> list[Part]:
        self._scanner.feed(text)
        return self._read()

    def finish(self) -> list[Part]:
        self._scanner.ended = True
        return self._read()

    def _read(self) -> list[Part]:
        next(self._reading, None)
        parts, self._parts = self._parts, []
        return parts

    def _answer(self, s: Scanner) -> Reading[None]:
        opened = self.generation_prompt.rpartition(_START)[2]
        thinking = _thinks(opened, so_far=False)
        if _MESSAGE not in opened:
            thinking = yield from self._header(s, thinking)
        while found := (yield from self._body(s, thinking)):
            if found in _ENDS:
                s.take(s.at + len(found))
                self._put(self._marker(thinking), s)
                thinking = False
            thinking = yield from self._header(s, thinking)

    def _header(self, s: Scanner, thinking: bool) -> Reading[bool]:
        """Read a header if there is one, and the call that it announces; tell whether what follows is thinking."""
        start = s.mark()
        yield from s.space()
        if not (yield from s.lookahead(_START, _CHANNEL, _CONSTRAIN, _MESSAGE, "to=")):
            yield from self._layout(s, thinking)
            return thinking
        yield from s.optional(_START)
        found = ""
        while found != _MESSAGE:
            yield from s.run(_HEADER_TEXT)
            found = yield from s.lookahead(_CHANNEL, _CONSTRAIN, _MESSAGE)
            if not found:
                break
            s.take(s.at + len(found))
        header = s.since(start)
        thinking = _thinks(header, thinking)
        recipient = _RECIPIENT.search(header)
        if not recipient:
            self._write_header(header, thinking, complete=bool(found))
            s.take_source()
            return thinking
        name = recipient[1].removeprefix("functions.")
        if self.tools and (found or (yield from s.lookahead(*_ENDS))) and (yield from self._call(s, name, thinking)):
            yield from self._layout(s, thinking)
        else:
            self._put(self._text(thinking), s)
        return thinking

    def _write_header(self, header: str, thinking: bool, *, complete: bool) -> None:
        """Words that belong in no header are the model's own if a body follows, else they were meant as one."""
        words = self._text(thinking or complete)
        for piece in _HEADER_PIECES.finditer(header):
            self._parts.append((self._marker(thinking) if piece["known"] else words)(piece[0]))

    def _call(self, s: Scanner, name: str, thinking: bool) -> Reading[bool]:
        """Read the body of a call; False if it is none."""
        yield from s.space()
        empty = bool((yield from s.lookahead(_START, _CHANNEL, *_ENDS)))
        if not (yield from s.peek()):
            # Where there would have been something to write, the answer may be cut off.
            empty = _takes_nothing(self.tools, name)
        try:
            arguments = "" if empty else (yield from read_json(s, first='{"'))
        except NotACall:
            return False
        if not s.call(name, arguments):
            self._parts += [self._text(thinking)(commit.source) for commit in s.take_commits()]
        else:
            self._parts += [ToolCall(call.name, call.arguments, call.source) for call in s.take_commits()]
        return True

    def _layout(self, s: Scanner, thinking: bool) -> Reading[None]:
        """Read the white space between two messages; before anything else it is text."""
        yield from s.space()
        between = not (yield from s.peek()) or (yield from s.lookahead(_START, _CHANNEL, *_ENDS))
        self._put(Marker if between else self._text(thinking), s)

    def _body(self, s: Scanner, thinking: bool) -> Reading[str]:
        """Read text as it comes; return which marker stands behind it, or "" at the end of the answer.

        A marker in quotation marks is talked about. The last quotation mark of a text may stand right before its end,
        so there it takes both.
        """
        last = ""
        while True:
            start, end = _IN_TEXT.find(s.text, s.at, ended=s.ended)
            if start > s.at:
                last = s.text[start - 1]
                s.take(start)
                self._put(self._text(thinking), s)
            if start == end:
                if s.ended:
                    return ""
                yield
                continue
            marker = s.text[start:end]
            if last not in _QUOTES or (marker in _ENDS and not (yield from s.lookahead(marker + last))):
                return marker
            last = ""
            s.take(s.at + len(marker))
            self._put(self._text(thinking), s)

    def _text(self, thinking: bool) -> type[Content | Reasoning]:
        return Reasoning if thinking and self.reasoning else Content

    def _marker(self, thinking: bool) -> type[Content | Marker]:
        return Content if thinking and not self.reasoning else Marker

    def _put(self, kind: type[Content | Reasoning | Marker], s: Scanner) -> None:
        if source := s.take_source():
            self._parts.append(kind(source))

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """State one call, after which the models stop; its recipient stands before or after the channel."""
        calls = []
        for function in functions(tools):
            recipient = f" to=functions.{named(function, _NAME)}"
            behind = f"{_CHANNEL}commentary{recipient} {_CONSTRAIN}json{_MESSAGE}"
            before = one_of(*(f"{recipient}{_CHANNEL}commentary {kind}{_MESSAGE}" for kind in _JSON))
            calls.append(chain(one_of(behind, before), function.json()))
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

    def thinking(self) -> Grammar:
        """Messages on the analysis channel, each with the beginning of the next."""
        opened = self.generation_prompt.rpartition(_START)[2]
        rest = chain(TextThrough((_ENDS[0],)), f"{_START}assistant")
        thoughts = Repeat(chain(_message("analysis", "", end=""), rest))
        if _MESSAGE not in opened:
            return thoughts
        return chain(rest, thoughts) if _thinks(opened, so_far=False) else Concat()

    def constrained(self, calls: Grammar | None, form: Grammar | None, choice: ToolChoice) -> Grammar:
        """A call, maybe behind preambles, or a message on the final channel."""
        told = FreeText() if form is None else form
        opened = self.generation_prompt.rpartition(_START)[2]
        if _MESSAGE in opened and not _thinks(opened, so_far=False):
            if calls is None:
                return told
            called = chain(_ENDS[0], f"{_START}assistant", calls)
            return called if choice.required else one_of(called, told)
        final = chain(f"{_CHANNEL}final", optional(f" {_CONSTRAIN}json") if form else "", _MESSAGE, told)
        if calls is None:
            return chain(self.thinking(), final)
        if choice.required:
            return chain(self.thinking(), calls)
        preamble = chain(_message("commentary", "", end=""), TextThrough((_ENDS[0],)), f"{_START}assistant")
        told_before = Concat() if form else Repeat(preamble)
        return chain(self.thinking(), one_of(chain(told_before, calls), final))


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [HarmonyParser]
