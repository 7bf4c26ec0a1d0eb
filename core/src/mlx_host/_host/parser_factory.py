"""Creates the parser for one choice of a response, from the parsers selected for its model."""

from __future__ import annotations

from mlx_host._host.parser_selection import ParserSelection
from mlx_host.parsing import Content, Marker, Parser, Part
from mlx_host.requests import ChatRequest


class PassthroughParser(Parser):
    """The parser of models without a parser: all text is content."""

    name = "none"
    description = "nothing: all text is content"

    def feed(self, text: str) -> list[Part]:
        return [Content(text)] if text else []

    def finish(self) -> list[Part]:
        return []


class SerialParser(Parser):
    """A reasoning parser followed by a tool-call parser of another family, which parses the content.

    Tool calls inside unclosed reasoning are not found. Prefer one parser that handles both, if the family has one.
    """

    name = "serial"
    description = "reasoning with one parser, then tool calls with another"

    def __init__(self, first: Parser, second: Parser) -> None:
        super().__init__()
        self._first = first
        self.calls_parser = second

    def feed(self, text: str) -> list[Part]:
        return self._parse_content(self._first.feed(text))

    def finish(self) -> list[Part]:
        self._first.truncated = self.calls_parser.truncated = self.truncated
        return self._parse_content(self._first.finish()) + self.calls_parser.finish()

    def _parse_content(self, parts: list[Part]) -> list[Part]:
        out: list[Part] = []
        for part in parts:
            out += self.calls_parser.feed(part.text) if isinstance(part, Content) else [part]
        return out


class ConstrainedContentParser(Parser):
    """The parser of a response with an output format: after the content has started, everything is content.

    Strings in constrained content, such as JSON, may contain markup. Only markers at the very end, such as one that
    closes the message, are still markers.
    """

    name = "constrained_content"
    description = "what another parser reads, until the content starts"

    def __init__(self, parser: Parser) -> None:
        super().__init__()
        self._parser = parser
        self._content_started = False
        # Markers since the last content: they are content if more text follows.
        self._pending_markers: list[Part] = []

    def feed(self, text: str) -> list[Part]:
        return self._to_content(self._parser.feed(text))

    def finish(self) -> list[Part]:
        self._parser.truncated = self.truncated
        return self._to_content(self._parser.finish()) + self._pending_markers

    def _to_content(self, parts: list[Part]) -> list[Part]:
        out: list[Part] = []
        for part in parts:
            if not self._content_started:
                self._content_started = isinstance(part, Content) and not part.text.isspace()
                out.append(part)
            elif isinstance(part, Marker):
                self._pending_markers.append(part)
            else:
                out += [Content(each.source) for each in (*self._pending_markers, part)]
                self._pending_markers = []
        return out


def make_parser(
    parsers: ParserSelection, request: ChatRequest, generation_prompt: str, *, stream_arguments: bool = False
) -> Parser:
    """Create the parser for one choice of a response."""
    parser = make_plain_parser(parsers, request, generation_prompt)
    (parser.calls_parser if isinstance(parser, SerialParser) else parser).stream_arguments = stream_arguments
    if request.output_format is None or isinstance(parser, PassthroughParser):
        return parser
    return ConstrainedContentParser(parser)


def make_plain_parser(parsers: ParserSelection, request: ChatRequest, generation_prompt: str) -> Parser:
    """Create the parser for an output without an output format."""
    tools = request.tools if parsers.tools else ()
    repair = parsers.repair_calls
    if parsers.tools is None and parsers.reasoning is None:
        return PassthroughParser()
    if parsers.reasoning is None and parsers.tools is not None:
        return parsers.tools(generation_prompt=generation_prompt, tools=tools, reasoning=False, repair_calls=repair)
    assert parsers.reasoning is not None
    if parsers.tools is None or parsers.tools is parsers.reasoning:
        return parsers.reasoning(generation_prompt=generation_prompt, tools=tools, repair_calls=repair)
    return SerialParser(
        parsers.reasoning(generation_prompt=generation_prompt),
        parsers.tools(generation_prompt="", tools=tools, reasoning=False, repair_calls=repair),
    )
