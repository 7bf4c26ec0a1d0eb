"""The contract of parsers, as tests to inherit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from html import unescape
from itertools import groupby
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import Grammar
from mlx_host.parsing import Content, Marker, Parser, Part, Reasoning, ToolCall, ToolCallDelta, ToolChoice
from mlx_host.requests import Json
from mlx_host.testing.call_strategies import calls_of as random_calls
from mlx_host.testing.grammar_matcher import admits
from mlx_host.testing.samples import TOOLS, Sample, load_samples
from mlx_host.testing.text_strategies import Case, chunks_of, damaged, mixture

STRING: Json = {"type": "string"}
PARAMETERS: tuple[object, ...] = (
    *(None, {}, {"type": "object"}, {"type": "array"}, {"type": "object", "properties": {}}, True, [], "object"),
    *({"properties": {"a": STRING, "b c": {"type": ["integer", "null"]}}, "required": ["a", "z"]}, {"properties": 7}),
    *({"properties": {"a": 7}}, {"properties": {"a": {"enum": []}}}, {"properties": {"a": {"enum": ["x", 1, None]}}}),
    *({"properties": {"a": {**STRING, "pattern": pattern}}} for pattern in ("^a+$", "(?!a)", "(", 7)),
    *({"properties": {"a": {**STRING, "maxLength": maximum}}} for maximum in (3, 3000, -1, "3")),
    *({"properties": {"a": {"type": "array", "items": items}}} for items in (STRING, [STRING], True, False)),
    *({"properties": {"a": {keyword: [STRING, {"type": "null"}]}}} for keyword in ("anyOf", "oneOf", "allOf")),
    *({keyword: [{"properties": {"a": STRING}}]} for keyword in ("anyOf", "oneOf", "allOf")),
    *({"properties": {"a": {"$ref": to}}, "$defs": {"A": STRING}} for to in ("#/$defs/A", "#/$defs/B", "#", "x", 7)),
    *({"additionalProperties": others} for others in (True, False, STRING, 7)),
    *({"patternProperties": {"^a": STRING}}, {"properties": {"a": STRING}, "required": "a"}, {"minProperties": 3}),
)
NAMES = ("f", "a-b.c", "größe", "with space", "<f>", 'q"[(', "", "\ud800")

# The maximum number of positions at which a sample is split: enough to reach every state of a parser.
_MAX_POSITIONS = 150

_SETTINGS = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
_CALL_SETTINGS = settings(_SETTINGS, max_examples=60)


class ParserContract:
    """Inherit, set `parser`, and let pytest collect the subclass.

        class TestMyParser(ParserContract):
            parser = MyParser

    `samples` are outputs of the family's models with the expected results, by default those in the module `samples` of
    the parser's package. Split, truncated, damaged and mixed with markers, they also test the two invariants: the
    result is independent of the chunks, and no text is lost. Every run tests the same texts.
    """

    parser: ClassVar[type[Parser]]
    samples: ClassVar[Sequence[Sample]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "parser" in cls.__dict__ and "samples" not in cls.__dict__:
            cls.samples = load_samples(cls.parser)

    def test_samples_cover_reasoning_or_calls(self) -> None:
        samples = self.samples
        assert any(sample.reasoning or sample.calls for sample in samples), "no sample has reasoning or a call"
        names = [sample.name for sample in samples]
        assert len(set(names)) == len(names), f"sample names are not unique: {names}"

    def test_samples_parse_as_expected(self) -> None:
        for sample in self.samples:
            parts = self.check(Case.of(sample))
            expected = (sample.content, sample.reasoning, list(sample.calls))
            parsed = (text_of(parts, Content), text_of(parts, Reasoning), calls_of(parts))
            assert parsed == expected, (
                f"sample {sample.name!r}: (content, reasoning, calls) is {parsed!r}, expected {expected!r}"
            )

    def test_samples_parse_the_same_in_any_chunks(self) -> None:
        for sample in self.samples:
            case = Case.of(sample)
            whole = self.parse(case, [sample.text])
            for chunks in ([sample.text[:n], sample.text[n:]] for n in positions(sample.text)):
                assert self.parse(case, chunks) == whole, f"sample {sample.name!r} in the chunks {chunks!r}"
            assert self.parse(case, sample.text) == whole, f"sample {sample.name!r} in single characters"

    def test_truncated_output_adds_no_call(self) -> None:
        for sample in self.samples:
            case = Case.of(sample)
            whole = self.parse(case, [sample.text])
            reasoning = text_of(whole, Reasoning)
            # Calls in reasoning that is not closed any more are parsed.
            allowed = calls_of(whole) + calls_of(self.parse(Case(reasoning, tools=sample.tools), [reasoning]))
            for n in positions(sample.text):
                calls = calls_of(self.check(replace(case, text=sample.text[:n], truncated=True)))
                invented = [call for call in calls if call not in allowed]
                assert not invented, (
                    f"sample {sample.name!r} truncated to {sample.text[:n]!r} gives unexpected calls: {invented!r}"
                )

    def test_calls_are_text_without_tools(self) -> None:
        for sample in self.samples:
            case = Case.of(sample)
            sources = [part.source for part in self.parse(case, [sample.text]) if isinstance(part, ToolCall)]
            parts = self.check(replace(case, tools=()))
            assert not calls_of(parts), f"sample {sample.name!r} gives calls without tools"
            self.check_calls_are_text(sample, sources, parts)

    def check_calls_are_text(self, sample: Sample, sources: list[str], parts: list[Part]) -> None:
        """Check that each call is text, except for markers in it that have a meaning without tools.

        A family whose calls are separate messages may override this.
        """
        text = text_of(parts, Content) + text_of(parts, Reasoning)
        markers = [part.source.strip() for part in parts if isinstance(part, Marker) and not part.source.isspace()]
        for source in map(str.strip, sources):
            remaining = source
            for marker in markers:
                remaining = remaining.replace(marker, "")
            assert remaining in text, f"sample {sample.name!r}: {source!r} is not text when there are no tools"
            assert remaining[:4] == source[:4], f"sample {sample.name!r}: {source!r} loses its beginning without tools"

    def test_disabled_reasoning_stays_in_the_content(self) -> None:
        for sample in self.samples:
            parts = self.check(replace(Case.of(sample), reasoning=False))
            assert not text_of(parts, Reasoning), f"sample {sample.name!r} gives reasoning although it is disabled"
            assert sample.reasoning in text_of(parts, Content), f"sample {sample.name!r} loses its reasoning"
            assert calls_of(parts) == list(sample.calls), f"sample {sample.name!r} does not give the expected calls"

    def test_calls_have_a_grammar_or_are_rejected(self) -> None:
        """Tools of any form have a grammar or raise UnsupportedRequestError, never another exception."""
        functions = [(name, {"type": "object"}) for name in NAMES] + [("f", parameters) for parameters in PARAMETERS]
        for name, parameters in functions:
            tool = {"type": "function", "function": {"name": name, "parameters": parameters}}
            for choice in (ToolChoice(), ToolChoice(required=True, parallel=False)):
                parser = self.parser(tools=[tool])
                try:
                    result: object = parser.output_grammar(parser.grammar([tool], choice), None, choice)
                except UnsupportedRequestError as error:
                    result = error.param
                is_valid = isinstance(result, Grammar) or result in ("tools", "tool_choice")
                assert is_valid, f"{tool!r} gives {result!r}, neither a Grammar nor an error for tools or tool_choice"

    def test_written_calls_are_parsed_back(self) -> None:
        """`write_calls` and `feed` agree, in each format, on random calls to the sample tools."""

        @_CALL_SETTINGS
        @given(st.lists(random_calls(TOOLS), min_size=1, max_size=3))
        def check(calls: list[tuple[str, dict[str, Any]]]) -> None:
            for text in self.written(calls):
                parts = self.check(Case(text, tools=TOOLS))
                parsed = calls_of(parts)
                assert parsed == calls, f"the calls {calls!r} are written {text!r}, which is parsed as {parsed!r}"
                rest = (text_of(parts, Content) + text_of(parts, Reasoning)).strip()
                assert not rest, f"the calls {calls!r} are written {text!r}, of which {rest!r} is parsed as text"

        check()

    def test_the_grammar_matches_written_calls(self) -> None:
        """`write_calls` and the grammar agree, so that forced calls are parsed."""

        @_CALL_SETTINGS
        @given(st.lists(random_calls(TOOLS), min_size=1, max_size=2))
        def check(calls: list[tuple[str, dict[str, Any]]]) -> None:
            choice = ToolChoice(required=True, parallel=len(calls) > 1)
            for text in self.written(calls):
                grammar = self.parser(tools=TOOLS).grammar(TOOLS, choice)
                assert admits(grammar, text), (
                    f"the calls {calls!r} are written as {text!r}, which the grammar does not match"
                )

        check()

    def test_streamed_arguments_are_those_of_the_call(self) -> None:
        """With `stream_arguments`, the fragments of a written call, joined, are the arguments of the whole call."""

        @_CALL_SETTINGS
        @given(st.lists(random_calls(TOOLS), min_size=1, max_size=3), st.data())
        def check(calls: list[tuple[str, dict[str, Any]]], data: st.DataObject) -> None:
            for text in self.written(calls):
                case = Case(text, tools=TOOLS)
                chunks = data.draw(chunks_of(text))
                whole = [(part.name, part.arguments) for part in self.parse(case, [text]) if isinstance(part, ToolCall)]
                parts = self.check_streamed(case, chunks)
                streamed = [(part.name, part.arguments) for part in parts if isinstance(part, ToolCall)]
                assert streamed == whole, f"the chunks {chunks!r} are streamed as {streamed!r}, whole {whole!r}"

        check()

    def test_strings_are_streamed_as_they_grow(self) -> None:
        """With `stream_arguments`, a long string is not held back until it is complete."""
        long = "".join(f"{n} < {n + 1}\n" for n in range(100))
        for text in self.written([("write_file", {"path": "a.txt", "text": long})]):
            # Somewhere in the string, whatever the notation does with its newlines.
            middle = text.index("50 < 51")
            parser = self.parser(tools=TOOLS)
            parser.stream_arguments = True
            parts = [part for char in text[:middle] for part in parser.feed(char)]
            arguments = "".join(part.arguments for part in parts if isinstance(part, ToolCallDelta))
            assert "48 < 49" in arguments, f"only {arguments!r} is streamed for {text[:middle]!r}"

    def written(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """Return calls as the family's models write them; a parser that can force calls must support single ones."""
        texts = self.parser.write_calls(calls)
        missing = len(calls) == 1 and not texts and self.parser.can_force_calls()
        assert not missing, f"parser {self.parser.name!r} has a grammar of calls, but write_calls returns nothing"
        return texts

    def test_invariants_hold_for_damaged_samples(self) -> None:
        @_SETTINGS
        @given(damaged(self.parser, self.samples), st.data())
        def check(case: Case, data: st.DataObject) -> None:
            chunks = data.draw(chunks_of(case.text))
            self.check(case, chunks)
            self.check_streamed(case, chunks)

        check()

    def test_invariants_hold_for_any_text(self) -> None:
        @_SETTINGS
        @given(mixture(self.parser, self.samples), st.data())
        def check(case: Case, data: st.DataObject) -> None:
            chunks = data.draw(chunks_of(case.text))
            self.check(case, chunks)
            self.check_streamed(case, chunks)

        check()

    def parse(self, case: Case, chunks: Iterable[str], *, stream_arguments: bool = False) -> list[Part]:
        parser = self.parser(generation_prompt=case.generation_prompt, tools=case.tools, reasoning=case.reasoning)
        parser.stream_arguments = stream_arguments
        parts = [part for chunk in chunks for part in parser.feed(chunk)]
        parser.truncated = case.truncated
        return list(joined(parts + parser.finish()))

    def check(self, case: Case, chunks: Sequence[str] = ()) -> list[Part]:
        """Check both invariants, and the contents of calls and markers; return the parts."""
        parts = self.parse(case, [case.text])
        cut = self.parse(case, chunks or case.text)
        assert cut == parts, f"not chunk-independent: {case!r} gives {cut!r} in chunks and {parts!r} as a whole"
        sources = "".join(part.source for part in parts)
        assert sources == case.text, f"not lossless: {case!r} gives {parts!r}"
        for part in parts:
            if isinstance(part, ToolCall):
                check_call(part)
            elif isinstance(part, Marker):
                self.check_marker(part.source, last=part is parts[-1])
        return parts

    def check_streamed(self, case: Case, chunks: Sequence[str]) -> list[Part]:
        """Check both invariants with streamed arguments; return the parts, with the fragments of each call joined."""
        parts = self.parse(case, [case.text], stream_arguments=True)
        cut = self.parse(case, chunks or case.text, stream_arguments=True)
        assert cut == parts, f"not chunk-independent: {case!r} streams {cut!r} in chunks and {parts!r} as a whole"
        sources = "".join(part.source for part in parts)
        assert sources == case.text, f"not lossless: {case!r} streams {parts!r}"
        for part in parts:
            if isinstance(part, ToolCall):
                check_call(part)
            elif isinstance(part, ToolCallDelta):
                assert part.state == "incomplete", f"a streamed call does not end: {part!r}"
                assert case.truncated, f"a streamed call is incomplete, but the output is not truncated: {part!r}"
        return parts

    def check_marker(self, source: str, *, last: bool) -> None:
        """Check that a Marker consists of markers and white space; the last one may be truncated."""
        known = re.compile("(?:" + "|".join([*map(re.escape, by_length(self.parser.markers)), r"\s"]) + ")*")
        rest = known.sub("", source, count=1)
        is_truncated = last and any(marker.startswith(rest) for marker in self.parser.markers)
        assert not rest or is_truncated, f"a Marker contains {rest!r}, which is not a marker: {source!r}"


def check_call(call: ToolCall) -> None:
    arguments = json.loads(call.arguments)
    assert isinstance(arguments, dict), f"the arguments are not a JSON object: {call!r}"
    assert call.name, f"a call without a name: {call!r}"
    spellings = (call.name, json.dumps(call.name)[1:-1], json.dumps(call.name, ensure_ascii=False)[1:-1])
    source = call.source.casefold()  # A tool's name may be written in another case.
    written = any(name.casefold() in source for name in spellings) or call.name.casefold() in unescape(source)
    assert written, f"the name is not in the source: {call!r}"


def joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Join adjacent parts of the same type, except calls; the fragments of a complete call become a call."""
    for kind, group in groupby(parts, type):
        if kind is ToolCall:
            yield from group
        elif kind is ToolCallDelta:
            yield from joined_calls(delta for delta in group if isinstance(delta, ToolCallDelta))
        elif source := "".join(part.source for part in group):
            yield kind(source)


def joined_calls(deltas: Iterable[ToolCallDelta]) -> Iterator[ToolCall | ToolCallDelta]:
    """Join the fragments of each call."""
    call: ToolCallDelta | None = None
    for delta in deltas:
        assert bool(delta.name) == (call is None), f"only the first fragment of a call has a name: {delta!r}"
        if call is None:
            call = delta
        else:
            call = replace(delta, arguments=call.arguments + delta.arguments, name=call.name, id=call.id)
        if delta.state == "completed":
            yield ToolCall(call.name, call.arguments, call.source, call.id, call.repaired)
            call = None
        elif delta.state == "incomplete":
            yield call
            call = None
        else:
            assert not delta.source, f"only the last fragment of a call has a source: {delta!r}"
    if call is not None:
        yield call


def text_of(parts: Iterable[Part], kind: type[Content | Reasoning]) -> str:
    return "".join(part.source for part in parts if isinstance(part, kind))


def calls_of(parts: Iterable[Part]) -> list[tuple[str, object]]:
    return [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, ToolCall)]


def positions(text: str) -> range:
    return range(0, len(text) + 1, max(1, len(text) // _MAX_POSITIONS))


def by_length(markers: Iterable[str]) -> list[str]:
    return sorted(markers, key=len, reverse=True)
