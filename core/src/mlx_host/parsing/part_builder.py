"""Builds parts from parsed text: the kind of each piece of text, and which part whitespace belongs to.

States of a PartBuilder:

    state            in_reasoning  only_whitespace  pending   meaning
    CONTENT_START    no            yes              no        before the first text of content
    CONTENT          no            no               no        in content
    REASONING_START  yes           yes              no        before the first text of reasoning
    REASONING        yes           no               no        in reasoning
    AFTER_CALL       no            yes              optional  after a call (`_after` is "call")
    PENDING_CALL     any           any              yes       after a call inside reasoning that was not closed

Transitions:

    event  from                     to               effect
    text   *_START, AFTER_CALL      CONTENT or       leading whitespace in reasoning is a Marker; in content it is
                                    REASONING        buffered, then a Marker after reasoning and content elsewhere
    open   any                      REASONING_START  buffered whitespace and the marker become one Marker
    close  *_START, REASONING       CONTENT_START    likewise
    close  CONTENT                  CONTENT          the marker becomes a Marker
    close  PENDING_CALL             CONTENT_START    rollback: the calls and the text since become reasoning
    call   CONTENT_START, CONTENT   AFTER_CALL       buffered whitespace becomes a Marker
    call   REASONING_START,         PENDING_CALL     likewise; the call and what follows are kept in `_pending`
           REASONING
    end    any                      -                `_pending` is emitted as it is: the reasoning was never closed.
                                                     Whitespace after the last call is a Marker

In CONTENT all whitespace is content. In REASONING trailing whitespace is buffered: it is reasoning if text follows, and
a Marker if a closing marker or a call follows.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from mlx_host.parsing.parser import Content, Marker, Part, Reasoning, ToolCall, ToolCallDelta


class CodeTracker:
    """Follows the backticks of content, in chunks of any size.

    in_span: whether the current line has an odd number of backticks.
    in_fence: whether an odd number of the lines before begin with three backticks.
    """

    def __init__(self) -> None:
        self.in_fence = False
        self._count = 0
        self._leading = 0
        self._at_start = True

    @property
    def in_span(self) -> bool:
        return self._count % 2 == 1

    def feed(self, text: str) -> None:
        if "`" not in text and "\n" not in text:
            self._at_start = self._at_start and not self._leading and text.isspace()
            return
        for n, segment in enumerate(text.split("\n")):
            if n:
                self.in_fence ^= self._leading >= 3
                self._count, self._leading, self._at_start = 0, 0, True
            if self._at_start:
                rest = segment if self._leading else segment.lstrip()
                body = rest.lstrip("`")
                self._leading += len(rest) - len(body)
                self._at_start = not body
            self._count += segment.count("`")


class PartBuilder:
    """Collects the parts of one output.

    `in_reasoning` is the initial state. If `reasoning` is False, everything that belongs to the reasoning, markers
    included, becomes Content.
    """

    def __init__(self, *, in_reasoning: bool, reasoning: bool) -> None:
        self.in_reasoning = in_reasoning
        self.only_whitespace = True
        self.last_char = ""
        self._reasoning = reasoning
        self._parts: list[Part] = []
        self._pending: list[Part] | None = None
        self._pending_only_whitespace = True
        self._whitespace: list[str] = []
        self._after = ""
        self._code = CodeTracker()

    @property
    def after_open_backtick(self) -> bool:
        """Whether content ends with a backtick that opens code."""
        return not self.may_be_reasoning and self.last_char == "`" and self._code.in_span

    @property
    def in_fence(self) -> bool:
        """Whether content is inside a Markdown fence, or in the line that opens or closes one."""
        return not self.may_be_reasoning and (self._code.in_fence or self._code.in_span)

    @property
    def may_be_reasoning(self) -> bool:
        """Whether a closing marker at this point would end reasoning."""
        return self.in_reasoning or self._pending is not None

    @property
    def at_content_start(self) -> bool:
        """Whether content would begin here: only whitespace since the last boundary."""
        return self.only_whitespace and not self.in_reasoning

    def text(self, text: str) -> None:
        """Add text of the current kind."""
        if not text:
            return
        if self.only_whitespace:
            body = text.lstrip()
            self._add_leading(text[: len(text) - len(body)])
            text = body
            if not text:
                return
            self._flush_whitespace()
        self.only_whitespace = False
        if self.in_reasoning:
            body = text.rstrip()
            if body:
                self._flush_whitespace()
                self._add_reasoning(body)
            self._whitespace.append(text[len(body) :])
        else:
            self._add(Content(text))
            self._code.feed(text)
        self.last_char = text[-1]

    def open(self, marker: str) -> None:
        """Begin reasoning; within reasoning the repeated marker is removed."""
        self._add_reasoning_marker(self._take_whitespace() + marker)
        self.in_reasoning, self.only_whitespace = True, True

    def close(self, marker: str) -> None:
        """End reasoning; a closing marker in content is only removed."""
        if self._pending is not None:
            self._rollback()
        if self.in_reasoning or self.only_whitespace:
            marker = self._take_whitespace() + marker
            self.in_reasoning, self.only_whitespace, self._after = False, True, "reasoning"
        self._add_reasoning_marker(marker)

    def call(self, call: ToolCall) -> None:
        if self.in_reasoning and self._pending is None:
            self._pending, self._pending_only_whitespace = [], self.only_whitespace
        if self.in_reasoning:
            self._add_reasoning_marker(self._take_whitespace())
        else:
            self.marker(self._take_whitespace())
        self._add(call)
        self._end_call()

    def call_delta(self, delta: ToolCallDelta) -> None:
        """Add a fragment of a call outside reasoning."""
        self.marker(self._take_whitespace())
        self._add(delta)
        if delta.state != "in_progress":
            self._end_call()

    def _end_call(self) -> None:
        self.last_char = ""
        self.in_reasoning, self.only_whitespace, self._after = False, True, "call"
        self._code = CodeTracker()

    def ignored(self, token: str) -> None:
        """Remove a token that has no effect on the state."""
        self._flush_whitespace()
        self.marker(token)

    def marker(self, source: str) -> None:
        if source:
            self._add(Marker(source))
            self.last_char = ""

    def end(self) -> None:
        """End the output: pending parts are final."""
        if self.only_whitespace and self._after == "call":
            self.marker(self._take_whitespace())
        self._flush_whitespace()
        self._parts += self._pending or ()
        self._pending = None

    def take(self) -> list[Part]:
        """Return the parts that are final, with neighbours of the same kind joined."""
        parts, self._parts = self._parts, []
        return list(_joined(parts))

    def _add_leading(self, whitespace: str) -> None:
        if self.in_reasoning:
            self._add_reasoning_marker(whitespace)
        else:
            self._whitespace.append(whitespace)

    def _flush_whitespace(self) -> None:
        """Add the buffered whitespace as reasoning, content or a Marker, depending on the state."""
        whitespace = self._take_whitespace()
        if not whitespace:
            return
        if self.in_reasoning:
            self._add_reasoning(whitespace)
        elif self.only_whitespace and self._after == "reasoning":
            self._add_reasoning_marker(whitespace)
        else:
            self._add(Content(whitespace))

    def _take_whitespace(self) -> str:
        whitespace = "".join(self._whitespace)
        self._whitespace.clear()
        return whitespace

    def _rollback(self) -> None:
        """Turn the pending parts into reasoning."""
        pending, self._pending = self._pending or [], None
        text = "".join(part.source for part in pending) + self._take_whitespace()
        self.in_reasoning, self.only_whitespace = True, self._pending_only_whitespace
        self.text(text)

    def _add_reasoning(self, text: str) -> None:
        self._add(Reasoning(text) if self._reasoning else Content(text))

    def _add_reasoning_marker(self, source: str) -> None:
        if source:
            self._add(Marker(source) if self._reasoning else Content(source))
            self.last_char = ""

    def _add(self, part: Part) -> None:
        (self._parts if self._pending is None else self._pending).append(part)


def _joined(parts: Iterable[Part]) -> Iterable[Part]:
    for kind, group in groupby(parts, type):
        if kind in (ToolCall, ToolCallDelta):
            yield from group
        else:
            yield kind("".join(part.source for part in group))
