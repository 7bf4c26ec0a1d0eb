"""The parser contract: one state machine per model family turns text into content, reasoning and tool calls.

Two laws hold for every parser and every text:

1. How the text was cut never shows: feeding it whole or in pieces of any size gives the same parts, once neighbouring
   parts of the same kind are joined.
2. Nothing is lost: the sources of all parts, joined in order, are the text.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mlx_host.requests import Json


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the reader, verbatim."""

    text: str

    @property
    def source(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text of the model's thinking, verbatim."""

    text: str

    @property
    def source(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Marker:
    """Syntax that is shown to nobody: a tag, a header, the white space that belongs to it."""

    source: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete call: `arguments` is the JSON text of an object, `source` what the model wrote.

    `id` is set only by families whose wire format carries one.
    """

    name: str
    arguments: str
    source: str
    id: str | None = None


Part = Content | Reasoning | Marker | ToolCall


@dataclass(frozen=True)
class Sample:
    """A text that the family's models write, and what it means; the contract tests it and its mutations.

    `calls` are (name, arguments as Python values). `prompt_tail` primes the parser, `tools` are OpenAI's shapes.
    """

    name: str
    text: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    prompt_tail: str = ""
    tools: Sequence[Json] = ()


class Parser(ABC):
    """Reads one answer of one model family: no I/O, no tokenizer, pieces of any size.

    A parser is made for one answer. `prompt_tail` is what the chat template appended after the last message. Without
    `tools` calls are left alone as text; with `reasoning` False thinking is left in the content, markers and all.
    No input makes it raise: what cannot be read comes back as the text it was.

    `markers` are the family's tags and keywords: a Marker part consists of them and of white space, nothing else.
    `templates` tell a chat template of the family: it holds all strings of one of these sets. `telltales` give away a
    call or thinking of the family in text that was not read.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str]
    samples: ClassVar[tuple[Sample, ...]]
    markers: ClassVar[tuple[str, ...]] = ()
    templates: ClassVar[tuple[tuple[str, ...], ...]] = ()
    telltales: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, prompt_tail: str = "", tools: Sequence[Json] = (), reasoning: bool = True) -> None:
        self.prompt_tail = prompt_tail
        self.tools = tools
        self.reasoning = reasoning

    @abstractmethod
    def feed(self, text: str) -> list[Part]:
        """Read the next piece; return the parts that are decided by now."""

    @abstractmethod
    def finish(self) -> list[Part]:
        """Return what was held back; the answer is over, whether complete or cut off."""

    @classmethod
    def new_call_id(cls) -> str:
        """Make an id for a call whose wire format has none."""
        return f"call_{uuid.uuid4().hex[:24]}"
