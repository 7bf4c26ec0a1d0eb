"""From what the state machine reads to parts: which kind a piece of text is, and whose white space is whose."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from mlx_host.parsing.parser import Content, Marker, Part, Reasoning, ToolCall


class Writer:
    """Collects parts.

    White space next to a thinking marker is Marker. So is content that is nothing but white space, where it stands next
    to a call. All other white space is verbatim. A call inside reasoning starts a draft: what follows is kept until a
    closer shows that all of it was reasoning, or the end of the answer that it was not.

    With `reasoning` False what belongs to the thinking is written as Content.
    """

    def __init__(self, *, inside: bool, reasoning: bool) -> None:
        self.inside = inside
        self.blank = True
        self.last = ""
        self._reasoning = reasoning
        self._parts: list[Part] = []
        self._draft: list[Part] | None = None
        self._draft_blank = True
        self._space: list[str] = []
        self._after = ""

    @property
    def thinking(self) -> bool:
        """Whether a closer that came now would end reasoning."""
        return self.inside or self._draft is not None

    @property
    def fresh(self) -> bool:
        """Whether content would begin here: nothing but white space since the last boundary."""
        return self.blank and not self.inside

    def text(self, text: str) -> None:
        """Write text of the current kind."""
        if not text:
            return
        if self.blank:
            body = text.lstrip()
            self._leading(text[: len(text) - len(body)])
            text = body
            if not text:
                return
            self._flush()
        self.blank = False
        if self.inside:
            body = text.rstrip()
            if body:
                self._flush()
                self._think(body)
            self._space.append(text[len(body) :])
        else:
            self._put(Content(text))
        self.last = text[-1]

    def open(self, marker: str) -> None:
        """Reasoning begins, or has begun and says so again."""
        self._thinking_marker(self._take_space() + marker)
        self.inside, self.blank = True, True

    def close(self, marker: str) -> None:
        """Reasoning ends; a stray closer in content is only taken out."""
        if self._draft is not None:
            self._withdraw()
        if self.inside or self.blank:
            marker = self._take_space() + marker
            self.inside, self.blank, self._after = False, True, "thinking"
        self._thinking_marker(marker)

    def call(self, call: ToolCall) -> None:
        if self.inside and self._draft is None:
            self._draft, self._draft_blank = [], self.blank
        if self.inside:
            self._thinking_marker(self._take_space())
        else:
            self.marker(self._take_space())
        self._put(call)
        self.last = ""
        self.inside, self.blank, self._after = False, True, "call"

    def noise(self, marker: str) -> None:
        """Take out a marker that means nothing."""
        self._flush()
        self.marker(marker)

    def marker(self, source: str) -> None:
        if source:
            self._put(Marker(source))
            self.last = ""

    def end(self) -> None:
        """The answer is over: what is undecided is what it seemed to be."""
        if self.blank and self._after == "call":
            self.marker(self._take_space())
        self._flush()
        self._parts += self._draft or ()
        self._draft = None

    def take(self) -> list[Part]:
        """Return what is decided, neighbours of one kind joined."""
        parts, self._parts = self._parts, []
        return list(_joined(parts))

    def _leading(self, space: str) -> None:
        if self.inside:
            self._thinking_marker(space)
        else:
            self._space.append(space)

    def _flush(self) -> None:
        """Write the white space that was held back as what it turned out to be."""
        space = self._take_space()
        if not space:
            return
        if self.inside:
            self._think(space)
        elif self.blank and self._after == "thinking":
            self._thinking_marker(space)
        else:
            self._put(Content(space))

    def _take_space(self) -> str:
        space = "".join(self._space)
        self._space.clear()
        return space

    def _withdraw(self) -> None:
        """The draft was reasoning after all."""
        draft, self._draft = self._draft or [], None
        text = "".join(part.source for part in draft) + self._take_space()
        self.inside, self.blank = True, self._draft_blank
        self.text(text)

    def _think(self, text: str) -> None:
        self._put(Reasoning(text) if self._reasoning else Content(text))

    def _thinking_marker(self, source: str) -> None:
        if source:
            self._put(Marker(source) if self._reasoning else Content(source))
            self.last = ""

    def _put(self, part: Part) -> None:
        (self._parts if self._draft is None else self._draft).append(part)


def _joined(parts: Iterable[Part]) -> Iterable[Part]:
    for kind, group in groupby(parts, type):
        if kind is ToolCall:
            yield from group
        else:
            yield kind("".join(part.source for part in group))
