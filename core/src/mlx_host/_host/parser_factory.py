"""Who reads an answer's text: the parsers of a model, put together for one choice."""

from __future__ import annotations

from mlx_host._host.parser_selection import ParserSelection
from mlx_host.parsing import Content, Marker, Parser, Part
from mlx_host.requests import ChatRequest


class Verbatim(Parser):
    """The parser of models that have none: everything is content."""

    name = "none"
    description = "nothing: the text is content"

    def feed(self, text: str) -> list[Part]:
        return [Content(text)] if text else []

    def finish(self) -> list[Part]:
        return []


class Chained(Parser):
    """Two families in series, for a reasoning parser and a tool-call parser of different names.

    Calls are looked for in what the first leaves as content, so one inside unclosed reasoning is not found: a family's
    own parser, which reads both in one machine, is to be preferred.
    """

    name = "chained"
    description = "reasoning by one family, calls by another"

    def __init__(self, first: Parser, then: Parser) -> None:
        super().__init__()
        self._first = first
        self._then = then

    def feed(self, text: str) -> list[Part]:
        return self._pass_on(self._first.feed(text))

    def finish(self) -> list[Part]:
        return self._pass_on(self._first.finish()) + self._then.finish()

    def _pass_on(self, parts: list[Part]) -> list[Part]:
        out: list[Part] = []
        for part in parts:
            out += self._then.feed(part.text) if isinstance(part, Content) else [part]
        return out


class Formed(Parser):
    """Reads an answer whose content has a form: what begins as content is content, whatever its strings may hold.

    Markers at the end are markers all the same, such as those that close a message.
    """

    name = "formed"
    description = "what another parser reads, up to the content"

    def __init__(self, before: Parser) -> None:
        super().__init__()
        self._before = before
        self._begun = False
        self._markers: list[Part] = []

    def feed(self, text: str) -> list[Part]:
        return self._settle(self._before.feed(text))

    def finish(self) -> list[Part]:
        return self._settle(self._before.finish()) + self._markers

    def _settle(self, parts: list[Part]) -> list[Part]:
        out: list[Part] = []
        for part in parts:
            if not self._begun:
                self._begun = isinstance(part, Content) and not part.text.isspace()
                out.append(part)
            elif isinstance(part, Marker):
                self._markers.append(part)
            else:
                out += [Content(each.source) for each in (*self._markers, part)]
                self._markers = []
        return out


def make_parser(parsers: ParserSelection, request: ChatRequest, generation_prompt: str) -> Parser:
    """Make the parser for one choice of an answer."""
    parser = _make(parsers, request, generation_prompt)
    return parser if request.form is None or isinstance(parser, Verbatim) else Formed(parser)


def _make(parsers: ParserSelection, request: ChatRequest, generation_prompt: str) -> Parser:
    tools = request.tools if parsers.tools else ()
    if parsers.tools is None and parsers.reasoning is None:
        return Verbatim()
    if parsers.reasoning is None and parsers.tools is not None:
        return parsers.tools(generation_prompt=generation_prompt, tools=tools, reasoning=False)
    assert parsers.reasoning is not None
    if parsers.tools is None or parsers.tools is parsers.reasoning:
        return parsers.reasoning(generation_prompt=generation_prompt, tools=tools)
    return Chained(
        parsers.reasoning(generation_prompt=generation_prompt),
        parsers.tools(generation_prompt="", tools=tools, reasoning=False),
    )
