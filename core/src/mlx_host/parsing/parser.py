"""The parser contract: one state machine per model family turns text into content, reasoning and tool calls.

Two invariants hold for every parser and every text:

1. Chunk-independent: the text gives the same parts whether it is fed whole or in chunks of any size, once neighbouring
   parts of the same kind are joined.
2. Lossless: the sources of all parts, joined in order, are the text.
"""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mlx_host.errors import PluginError, UnsupportedRequestError
from mlx_host.grammar import Concat, FreeText, Grammar, Pattern, Repeat, TextThrough, chain, one_of, strip_prefix
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


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which calls an answer may make: one function's alone if it has a name, one at a time unless `parallel`.

    With `required` the answer is a call; without, it may be anything else as well.
    """

    required: bool = False
    name: str | None = None
    parallel: bool = True


class Parser(ABC):
    """Reads one answer of one model family: no I/O, no tokenizer, pieces of any size.

    A parser is made for one answer. `generation_prompt` is what the chat template appended after the last message. Without
    `tools` calls are left alone as text; with `reasoning` False thinking is left in the content, markers and all.
    No input makes it raise: what cannot be read comes back as the text it was.

    `markers` are the family's tags and keywords: a Marker part consists of them and of white space, nothing else.
    `templates` tell a chat template of the family: it holds all strings of one of these sets. `telltales` give away a
    call or thinking of the family in text that was not read. `openers` are the strings that begin a call wherever they
    stand in the text.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str]
    markers: ClassVar[tuple[str, ...]] = ()
    templates: ClassVar[tuple[tuple[str, ...], ...]] = ()
    telltales: ClassVar[tuple[str, ...]] = ()
    openers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, generation_prompt: str = "", tools: Sequence[Json] = (), reasoning: bool = True) -> None:
        self.generation_prompt = generation_prompt
        self.tools = tools
        self.reasoning = reasoning

    @classmethod
    def can_force_calls(cls) -> bool:
        """Tell whether `grammar` states the calls of this family."""
        return cls.grammar is not Parser.grammar

    @classmethod
    def write_calls(cls, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Write calls the way the family's models do, once in each format that `grammar` states.

        `calls` are names and arguments as Python values. A format that takes one call only is left out for several.
        """
        return []

    @abstractmethod
    def feed(self, text: str) -> list[Part]:
        """Read the next piece; return the parts that are decided by now."""

    @abstractmethod
    def finish(self) -> list[Part]:
        """Return what was held back; the answer is over, whether complete or cut off."""

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """State calls as the family's models write them: one, or one or more where `choice` allows it, and no text.

        `tools` are OpenAI's shapes of those that `choice` leaves, at least one. What the grammar admits, the parser
        reads as a call to one of them whose arguments conform to its schema. UnsupportedRequestError if that cannot be said.

        Two traps of llguidance's lexer: text goes on as long as it can, so what ends it belongs to it (TextThrough); and
        of fixed texts of which one begins like the other, only the longer is left once the shorter is written.
        """
        raise UnsupportedRequestError(
            f"the parser {self.name!r} cannot force or constrain calls: its format is not stated as a grammar",
            param="tool_choice",
        )

    def thinking(self) -> Grammar:
        """State what may come before the answer proper, given the prompt's tail; by default nothing."""
        return Concat()

    @classmethod
    def thinks(cls, template: str) -> bool:
        """Whether a model with this chat template may think; where it never does, it must not be offered to."""
        return True

    def constrained(self, calls: Grammar | None, form: Grammar | None, choice: ToolChoice) -> Grammar:
        """State a whole answer: thinking, then `calls`, `form`, or either; without a form, text with calls in it.

        `calls` is what `grammar` gave, None where none may be made.
        """
        if calls is None or choice.required:
            body = calls if calls is not None else form if form is not None else FreeText()
        elif form is not None:
            body = one_of(calls, form)
        else:
            body = self.text_with(calls, choice)
        # White space belongs to the thinking before it; without any, it would be content.
        layout = Pattern(r"[ \n]{0,2}")
        match self.thinking():
            case Concat(()):
                return body
            case Repeat(thought, 0, 1):
                return one_of(chain(thought, layout, body), body)
            case thought:
                return chain(thought, layout, body)

    def text_with(self, calls: Grammar, choice: ToolChoice) -> Grammar:
        """State text in which each call, once opened, is one of `calls`; openers that none has do not occur."""
        text = FreeText(without=self.openers)
        triggered = []
        for opener in self.openers:
            if (rest := strip_prefix(calls, opener)) is not None:
                others = tuple(re.escape(other) for other in self.openers if other != opener)
                unless = (f"(?s:.*)(?:{'|'.join(others)})(?s:.*)",) if others else ()
                triggered.append(chain(TextThrough((opener,), unless=unless), rest))
        if not triggered:
            raise PluginError(f"the calls of the parser {self.name!r} begin with none of its openers {self.openers}")
        return chain(Repeat(one_of(*triggered), 0, None if choice.parallel else 1), text)

    @classmethod
    def new_call_id(cls) -> str:
        """Make an id for a call whose wire format has none."""
        return f"call_{uuid.uuid4().hex[:24]}"
