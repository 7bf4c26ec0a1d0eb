"""The parser contract: one parser per model family separates output text into content, reasoning and tool calls.

Two invariants hold for every parser and every text:

1. Chunk-independent: the result is the same however the text is split into chunks, once neighbouring parts of the same
   kind are joined.
2. Lossless: the sources of all parts, joined in order, are the text.
"""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mlx_host.errors import PluginError, UnsupportedRequestError
from mlx_host.grammar import Concat, FreeText, Grammar, Pattern, Repeat, TextThrough, chain, one_of, strip_prefix
from mlx_host.requests import Json, ReasoningMarkup


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the response, verbatim."""

    text: str

    @property
    def source(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text of the model's reasoning, verbatim."""

    text: str

    @property
    def source(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Marker:
    """Markup that clients do not receive: a tag, a header, and the whitespace that belongs to it."""

    source: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete call: `arguments` is the JSON text of an object, `source` the text that the model generated.

    `id` is set only by families whose format contains one. `repaired` is whether the arguments were damaged JSON.
    """

    name: str
    arguments: str
    source: str
    id: str | None = None
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A fragment of a call whose arguments are streamed: `arguments` is the next part of the JSON text.

    Only the first delta has the name, and the id if the format contains one before the arguments. `state` is
    "in_progress" except in the last delta, which has the source of the whole call. It is "incomplete" if the output was
    cut off, and then the arguments are not valid JSON. `repaired` is whether the call was damaged.
    """

    arguments: str
    name: str = ""
    id: str | None = None
    state: Literal["in_progress", "completed", "incomplete"] = "in_progress"
    source: str = ""
    repaired: bool = False


Part = Content | Reasoning | Marker | ToolCall | ToolCallDelta


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which calls an output may contain.

    `required`: the output must be a call. `name`: only this function may be called. `parallel`: several calls are
    allowed.
    """

    required: bool = False
    name: str | None = None
    parallel: bool = True


class Parser(ABC):
    """Parses one output of a model family incrementally, without I/O or a tokenizer.

    An instance parses one output. `generation_prompt` is the text that the chat template appends after the last
    message. Without `tools`, calls are text. If `reasoning` is False, reasoning stays in the content, markers included.
    `repair_calls` False leaves calls with damaged JSON as text. Set `stream_arguments` before the first `feed` to get
    calls as ToolCallDelta parts while they are generated. Set `truncated` before `finish` if the output was cut off
    instead of being ended by the model. No input raises an exception: text that cannot be parsed is content.

    name: the name for `--parser`; `aliases` are other names.
    description: what the parser supports, for `mlx-host parser list` and the documentation.
    markers: the family's tags and keywords. A Marker part consists only of these and of whitespace.
    template_signatures: sets of strings for `--parser auto`. A chat template belongs to the family if it contains all
        strings of one set.
    signatures: strings that reveal unparsed calls or reasoning of the family in an output.
    call_starts: strings that begin a call anywhere in an output.
    bare_calls: whether calls without markup are parsed, such as a JSON object with the name of a tool.
    history_markers: strings that the family's chat template does not accept in the content of an assistant message.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    description: ClassVar[str]
    markers: ClassVar[tuple[str, ...]] = ()
    template_signatures: ClassVar[tuple[tuple[str, ...], ...]] = ()
    signatures: ClassVar[tuple[str, ...]] = ()
    call_starts: ClassVar[tuple[str, ...]] = ()
    bare_calls: ClassVar[bool] = False
    history_markers: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        generation_prompt: str = "",
        tools: Sequence[Json] = (),
        reasoning: bool = True,
        repair_calls: bool = True,
    ) -> None:
        self.generation_prompt = generation_prompt
        self.tools = tools
        self.reasoning = reasoning
        self.repair_calls = repair_calls
        self.stream_arguments = False
        self.truncated = False

    @classmethod
    def can_force_calls(cls) -> bool:
        """Return whether the family implements `grammar`."""
        return cls.grammar is not Parser.grammar

    @classmethod
    def write_calls(cls, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Write calls as the family's models do, once in each format of `grammar`.

        `calls` are names and arguments as Python values. Formats for a single call are omitted if there are several.
        """
        return []

    @classmethod
    def write_result(cls, name: str, content: str) -> str:
        """Write the result of the function `name`, for chat templates without tool messages.

        `name` is empty if it is unknown. Several results are separated by newlines.
        """
        return f"<tool_response>\n{content}\n</tool_response>"

    @abstractmethod
    def feed(self, text: str) -> list[Part]:
        """Parse the next chunk; return the parts that are final."""

    @abstractmethod
    def finish(self) -> list[Part]:
        """Return the remaining parts at the end of the output, whether complete or truncated."""

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        """Return the grammar of calls as the family's models write them, without text around them.

        It matches one call, or one or more if `choice.parallel`. `tools` is not empty, in OpenAI's format, and contains
        only the tools that `choice` allows. Whatever the grammar matches must be parsed as calls to these tools with
        arguments that conform to their schemas. UnsupportedRequestError if that cannot be guaranteed.

        llguidance's lexer takes the longest match. The terminator of a text must therefore be part of the same lexeme
        (TextThrough), and if one literal is a prefix of another, only the longer one can match after it.
        """
        raise UnsupportedRequestError(
            f"The parser {self.name!r} does not support forced or strict tool calls; use tool_choice 'auto' or 'none'.",
            param="tool_choice",
        )

    def reasoning_grammar(self) -> Grammar:
        """Return the grammar of the reasoning that may precede calls and content; empty by default."""
        return Concat()

    @classmethod
    def reasoning_markup(cls) -> ReasoningMarkup | None:
        """Return the strings that open and close reasoning; None if the family does not have them.

        They are used to limit the number of reasoning tokens.
        """
        return None

    @classmethod
    def can_reason(cls, template: str) -> bool:
        """Return whether a model with this chat template can reason; if not, its grammars must not allow reasoning."""
        return True

    def output_grammar(self, calls: Grammar | None, content: Grammar | None, choice: ToolChoice) -> Grammar:
        """Return the grammar of a whole output: reasoning, then calls, content or either.

        `calls` is the result of `grammar`, or None if no call is allowed. `content` is the output format; if None, the
        output is text that may contain calls.
        """
        if calls is None or choice.required:
            body = calls if calls is not None else content if content is not None else FreeText()
        elif content is not None:
            body = one_of(calls, content)
        else:
            body = self.text_with_calls(calls, choice)
        # Whitespace after reasoning is markup. Without reasoning it would be content.
        whitespace = Pattern(r"[ \n]{0,2}")
        match self.reasoning_grammar():
            case Concat(()):
                return body
            case Repeat(reasoning, 0, 1):
                return one_of(chain(reasoning, whitespace, body), body)
            case reasoning:
                return chain(reasoning, whitespace, body)

    def text_with_calls(self, calls: Grammar, choice: ToolChoice) -> Grammar:
        """Return the grammar of text in which each call start begins one of `calls`."""
        lookalikes = self.call_lookalikes()
        text = FreeText(excluding=self.call_starts, not_matching=lookalikes)
        triggered = []
        for start in self.call_starts:
            if (rest := strip_prefix(calls, start)) is not None:
                others = tuple(re.escape(other) for other in self.call_starts if other != start)
                unless = (f"(?s:.*)(?:{'|'.join(others)})(?s:.*)",) if others else ()
                triggered.append(chain(TextThrough((start,), not_matching=(*unless, *lookalikes)), rest))
        if not triggered:
            raise PluginError(
                f"the grammar of the parser {self.name!r} begins with none of its call_starts {self.call_starts}"
            )
        return chain(Repeat(one_of(*triggered), 0, None if choice.parallel else 1), text)

    @classmethod
    def call_lookalikes(cls) -> tuple[str, ...]:
        """Return regexes that match calls without markup; grammars do not allow such text outside calls."""
        return ()

    @classmethod
    def new_call_id(cls) -> str:
        """Return a new id for a call without one."""
        return f"call_{uuid.uuid4().hex[:24]}"
