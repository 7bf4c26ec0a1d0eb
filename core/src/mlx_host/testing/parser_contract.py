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
from mlx_host.parsing import Content, Marker, Parser, Part, Reasoning, ToolCall, ToolChoice
from mlx_host.requests import Json
from mlx_host.testing.call_strategies import calls_of as random_calls
from mlx_host.testing.grammar_matcher import admits
from mlx_host.testing.samples import TOOLS, Sample, load_samples
from mlx_host.testing.text_strategies import Case, damaged, medley, pieces_of

STRING: Json = {"type": "string"}
PARAMETERS: tuple[object, ...] = (
    *(None, {}, {"type": "object"}, {"type": "array"}, {"type": "object", "properties": {}}, True, [], "object"),
    *({"properties": {"a": STRING, "b c": {"type": ["integer", "null"]}}, "required": ["a", "z"]}, {"properties": 7}),
    *({"properties": {"a": 7}}, {"properties": {"a": {"enum": []}}}, {"properties": {"a": {"enum": ["x", 1, None]}}}),
    *({"properties": {"a": {**STRING, "pattern": pattern}}} for pattern in ("^a+$", "(?!a)", "(", 7)),
    *({"properties": {"a": {**STRING, "maxLength": most}}} for most in (3, 3000, -1, "3")),
    *({"properties": {"a": {"type": "array", "items": items}}} for items in (STRING, [STRING], True, False)),
    *({"properties": {"a": {keyword: [STRING, {"type": "null"}]}}} for keyword in ("anyOf", "oneOf", "allOf")),
    *({keyword: [{"properties": {"a": STRING}}]} for keyword in ("anyOf", "oneOf", "allOf")),
    *({"properties": {"a": {"$ref": to}}, "$defs": {"A": STRING}} for to in ("#/$defs/A", "#/$defs/B", "#", "x", 7)),
    *({"additionalProperties": others} for others in (True, False, STRING, 7)),
    *({"patternProperties": {"^a": STRING}}, {"properties": {"a": STRING}, "required": "a"}, {"minProperties": 3}),
)
NAMES = ("f", "a-b.c", "größe", "with space", "<f>", 'q"[(', "", "\ud800")

# Enough positions to meet every state of a parser, few enough to be quick for long samples.
_POSITIONS = 150

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

    The samples are outputs of the family's models with the expected result. Split, truncated, damaged and mixed with
    the parser's markers they also test the two invariants (chunk-independent, lossless). They are found in the module
    `samples` of the parser's package, unless the subclass sets them. Every run tests the same texts.
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
            meant = (sample.content, sample.reasoning, list(sample.calls))
            read = (text_of(parts, Content), text_of(parts, Reasoning), calls_of(parts))
            assert read == meant, f"sample {sample.name!r}: read (content, reasoning, calls) {read!r}, meant {meant!r}"

    def test_samples_parse_alike_in_any_chunks(self) -> None:
        for sample in self.samples:
            case = Case.of(sample)
            whole = self.parse(case, [sample.text])
            for pieces in ([sample.text[:n], sample.text[n:]] for n in positions(sample.text)):
                assert self.parse(case, pieces) == whole, f"sample {sample.name!r} in the pieces {pieces!r}"
            assert self.parse(case, sample.text) == whole, f"sample {sample.name!r} in single characters"

    def test_truncated_output_adds_no_call(self) -> None:
        for sample in self.samples:
            case = Case.of(sample)
            whole = self.parse(case, [sample.text])
            thoughts = self.parse(Case(text_of(whole, Reasoning), tools=sample.tools), [text_of(whole, Reasoning)])
            held = calls_of(whole) + calls_of(thoughts)
            for n in positions(sample.text):
                calls = calls_of(self.check(replace(case, text=sample.text[:n])))
                invented = [call for call in calls if call not in held]
                assert not invented, f"sample {sample.name!r} ending in {sample.text[:n]!r} gives {invented!r}"

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
            left = source
            for marker in markers:
                left = left.replace(marker, "")
            assert left in text, f"sample {sample.name!r}: {source!r} is not text when there are no tools"
            assert left[:4] == source[:4], f"sample {sample.name!r}: {source!r} loses its beginning without tools"

    def test_disabled_reasoning_stays_in_the_content(self) -> None:
        for sample in self.samples:
            parts = self.check(replace(Case.of(sample), reasoning=False))
            assert not text_of(parts, Reasoning), f"sample {sample.name!r} gives reasoning though it is off"
            assert sample.reasoning in text_of(parts, Content), f"sample {sample.name!r} loses its reasoning"
            assert calls_of(parts) == list(sample.calls), f"sample {sample.name!r} gives other calls"

    def test_calls_have_a_grammar_or_are_rejected(self) -> None:
        """Tools of any shape get a grammar or a clear error, never another exception."""
        asked = [(name, {"type": "object"}) for name in NAMES] + [("f", parameters) for parameters in PARAMETERS]
        for name, parameters in asked:
            tool = {"type": "function", "function": {"name": name, "parameters": parameters}}
            for choice in (ToolChoice(), ToolChoice(required=True, parallel=False)):
                parser = self.parser(tools=[tool])
                try:
                    answer = parser.output_grammar(parser.grammar([tool], choice), None, choice)
                except UnsupportedRequestError as error:
                    known, stated = error.param in ("tools", "tool_choice"), True
                else:
                    known, stated = True, isinstance(answer, Grammar)
                assert known, f"the error for {tool!r} names neither 'tools' nor 'tool_choice'"
                assert stated, f"the result for {tool!r} is not a Grammar"

    def test_written_calls_are_read_back(self) -> None:
        """`write_calls` and the reader agree, in each format, on random calls of the sample tools."""

        @_CALL_SETTINGS
        @given(st.lists(random_calls(TOOLS), min_size=1, max_size=3))
        def check(calls: list[tuple[str, dict[str, Any]]]) -> None:
            for text in self.written(calls):
                parts = self.check(Case(text, tools=TOOLS))
                read = calls_of(parts)
                assert read == calls, f"the calls {calls!r} are written {text!r}, which is read as {read!r}"
                left = (text_of(parts, Content) + text_of(parts, Reasoning)).strip()
                assert not left, f"the calls {calls!r} are written {text!r}, of which {left!r} is read as text"

        check()

    def test_the_grammar_admits_written_calls(self) -> None:
        """`write_calls` and the grammar agree, so that a forced call is one that the parser reads."""

        @_CALL_SETTINGS
        @given(st.lists(random_calls(TOOLS), min_size=1, max_size=2))
        def check(calls: list[tuple[str, dict[str, Any]]]) -> None:
            choice = ToolChoice(required=True, parallel=len(calls) > 1)
            for text in self.written(calls):
                grammar = self.parser(tools=TOOLS).grammar(TOOLS, choice)
                assert admits(grammar, text), f"the calls {calls!r} are written {text!r}, which the grammar excludes"

        check()

    def written(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """Return calls as the family writes them; a family that can force calls writes at least single ones."""
        texts = self.parser.write_calls(calls)
        missing = len(calls) == 1 and not texts and self.parser.can_force_calls()
        assert not missing, f"the parser {self.parser.name!r} states a grammar of calls, but write_calls writes none"
        return texts

    def test_invariants_hold_for_damaged_samples(self) -> None:
        @_SETTINGS
        @given(damaged(self.parser, self.samples), st.data())
        def check(case: Case, data: st.DataObject) -> None:
            self.check(case, data.draw(pieces_of(case.text)))

        check()

    def test_invariants_hold_for_any_text(self) -> None:
        @_SETTINGS
        @given(medley(self.parser, self.samples), st.data())
        def check(case: Case, data: st.DataObject) -> None:
            self.check(case, data.draw(pieces_of(case.text)))

        check()

    def parse(self, case: Case, pieces: Iterable[str]) -> list[Part]:
        parser = self.parser(generation_prompt=case.generation_prompt, tools=case.tools, reasoning=case.reasoning)
        parts = [part for piece in pieces for part in parser.feed(piece)]
        return list(joined(parts + parser.finish()))

    def check(self, case: Case, pieces: Sequence[str] = ()) -> list[Part]:
        """Check both invariants, and the contents of calls and markers; return the parts."""
        parts = self.parse(case, [case.text])
        cut = self.parse(case, pieces or case.text)
        assert cut == parts, f"not chunk-independent: {case!r} in chunks gives {cut!r}, whole {parts!r}"
        sources = "".join(part.source for part in parts)
        assert sources == case.text, f"not lossless: {case!r} gives {parts!r}"
        for part in parts:
            if isinstance(part, ToolCall):
                check_call(part)
            elif isinstance(part, Marker):
                self.check_marker(part.source, last=part is parts[-1])
        return parts

    def check_marker(self, source: str, *, last: bool) -> None:
        """At the end of the text it may be the beginning of a marker."""
        known = re.compile("(?:" + "|".join([*map(re.escape, by_length(self.parser.markers)), r"\s"]) + ")*")
        rest = known.sub("", source, count=1)
        cut_off = last and any(marker.startswith(rest) for marker in self.parser.markers)
        assert not rest or cut_off, f"a Marker holds {rest!r}, which is no marker: {source!r}"


def check_call(call: ToolCall) -> None:
    arguments = json.loads(call.arguments)
    assert isinstance(arguments, dict), f"arguments are no JSON object: {call!r}"
    assert call.name, f"a call without a name: {call!r}"
    spellings = (call.name, json.dumps(call.name)[1:-1], json.dumps(call.name, ensure_ascii=False)[1:-1])
    written = any(name in call.source for name in spellings) or call.name in unescape(call.source)
    assert written, f"the name is not in the source: {call!r}"


def joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Join neighbours of one kind."""
    for kind, group in groupby(parts, type):
        if kind is ToolCall:
            yield from group
        elif source := "".join(part.source for part in group):
            yield kind(source)


def text_of(parts: Iterable[Part], kind: type[Content | Reasoning]) -> str:
    return "".join(part.source for part in parts if isinstance(part, kind))


def calls_of(parts: Iterable[Part]) -> list[tuple[str, object]]:
    return [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, ToolCall)]


def positions(text: str) -> range:
    return range(0, len(text) + 1, max(1, len(text) // _POSITIONS))


def by_length(markers: Iterable[str]) -> list[str]:
    return sorted(markers, key=len, reverse=True)
