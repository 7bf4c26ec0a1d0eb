"""ParserContract detects broken parsers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from mlx_host.errors import PluginError
from mlx_host.grammar import Grammar
from mlx_host.parsing import (
    CallReader,
    CallValues,
    Content,
    JsonCall,
    Marker,
    MarkupParser,
    Part,
    Reasoning,
    TaggedCalls,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolFunction,
    tool_functions,
)
from mlx_host.requests import Json
from mlx_host.testing import ParserContract, parser_contract
from mlx_host.testing.samples import TOOLS as SAMPLE_TOOLS
from mlx_host.testing.samples import Sample
from mlx_host_parser_hermes import HermesParser
from mlx_host_parser_hermes import samples as hermes_samples

from tests.core.parsing.example_parsers import TOOLS, Tagged


class LosesText(Tagged):
    def feed(self, text: str) -> list[Part]:
        return [Content(part.text.strip()) if isinstance(part, Content) else part for part in super().feed(text)]


class DependsOnChunks(Tagged):
    """Searches each chunk separately."""

    def feed(self, text: str) -> list[Part]:
        return super().feed(text) + self.finish()


class ParserError(Exception):
    pass


class Raises(Tagged):
    def feed(self, text: str) -> list[Part]:
        if "<call>" in text and "</think>" in text:
            raise ParserError(text)
        return super().feed(text)


class InventsCalls(Tagged):
    """Completes truncated calls."""

    def finish(self) -> list[Part]:
        parts = super().finish()
        return [
            ToolCall("f", "{}", part.text) if isinstance(part, Content) and "<call>" in part.text else part
            for part in parts
        ]


class EmitsInvalidArguments(Tagged):
    def feed(self, text: str) -> list[Part]:
        parts = super().feed(text)
        return [ToolCall(part.name, "[]", part.source) if isinstance(part, ToolCall) else part for part in parts]


class HidesText(Tagged):
    """Emits reasoning as markers."""

    def feed(self, text: str) -> list[Part]:
        return [Marker(part.source) if isinstance(part, Reasoning) else part for part in super().feed(text)]


class CallsWithoutTools(Tagged):
    def __init__(self, **primed: object) -> None:
        super().__init__(
            generation_prompt=str(primed["generation_prompt"]), tools=TOOLS, reasoning=bool(primed["reasoning"])
        )


class ReasonsAlways(Tagged):
    def __init__(self, **primed: object) -> None:
        super().__init__(generation_prompt=str(primed["generation_prompt"]), tools=TOOLS if primed["tools"] else ())


class HasNoRelevantSamples(Tagged):
    samples = (Sample("text", "text", "text"),)


class Notes(MarkupParser):
    """A consistent parser."""

    name = "notes"
    description = "JSON in tags"
    calls: ClassVar[tuple[CallReader, ...]] = (TaggedCalls("[[do]]", JsonCall(), "[[/do]]"),)
    samples = (Sample("call", '[[do]]{"name": "now"}[[/do]]', calls=(("now", {}),), tools=SAMPLE_TOOLS),)


class OtherCalls(TaggedCalls):
    """Parses `arguments` and `[[/do]]`, but its grammar and output have `args` and `[[/end]]`."""

    other = TaggedCalls("[[do]]", JsonCall("args"), "[[/end]]")

    def grammar(self, functions: Sequence[ToolFunction], choice: ToolChoice) -> Grammar:
        return self.other.grammar(functions, choice)

    def write(self, calls: Sequence[CallValues]) -> str:
        return self.other.write(calls)


class WritesOtherCalls(Notes):
    calls = (OtherCalls("[[do]]", JsonCall(), "[[/do]]"),)


class OtherCloser(TaggedCalls):
    """Parses `[[/do]]`, but writes `[[/end]]`."""

    def write(self, calls: Sequence[CallValues]) -> str:
        return super().write(calls).replace(self.closer, "[[/end]]")


class WritesOtherCloser(Notes):
    calls = (OtherCloser("[[do]]", JsonCall(), "[[/do]]"),)


class ConstrainsToOtherCalls(Notes):
    """Parses what it writes, but its grammar has other keys and another closing tag."""

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        return OtherCalls.other.grammar(tool_functions(tools), choice)


class ConstrainsSingleCallsOnly(Notes):
    """Its grammar has a separator that it does not write."""

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        between = TaggedCalls("[[do]]", JsonCall(), "[[/do]]", between=";")
        return between.grammar(tool_functions(tools), choice)


class WritesNothing(Notes):
    @classmethod
    def write_calls(cls, calls: Sequence[CallValues]) -> list[str]:
        return []


class StreamsOtherArguments(Notes):
    """Streams each fragment without its spaces."""

    def feed(self, text: str) -> list[Part]:
        parts = super().feed(text)
        return [
            replace(part, arguments=part.arguments.replace(" ", "")) if isinstance(part, ToolCallDelta) else part
            for part in parts
        ]


class StreamsNothing(Notes):
    """Ignores `stream_arguments`."""

    def feed(self, text: str) -> list[Part]:
        self.stream_arguments = False
        return super().feed(text)


@pytest.fixture(autouse=True)
def skip_shrinking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrinking failing examples takes most of the time and is not needed here."""
    unshortened = settings(parser_contract._SETTINGS, phases=[Phase.generate])
    monkeypatch.setattr(parser_contract, "_SETTINGS", unshortened)
    monkeypatch.setattr(parser_contract, "_CALL_SETTINGS", settings(unshortened, max_examples=20))


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (LosesText, "test_invariants_hold_for_any_text"),
        (DependsOnChunks, "test_samples_parse_the_same_in_any_chunks"),
        (DependsOnChunks, "test_invariants_hold_for_damaged_samples"),
        (Raises, "test_invariants_hold_for_any_text"),
        (InventsCalls, "test_truncated_output_adds_no_call"),
        (EmitsInvalidArguments, "test_samples_parse_as_expected"),
        (HidesText, "test_samples_parse_as_expected"),
        (HidesText, "test_invariants_hold_for_any_text"),
        (CallsWithoutTools, "test_calls_are_text_without_tools"),
        (ReasonsAlways, "test_disabled_reasoning_stays_in_the_content"),
        (HasNoRelevantSamples, "test_samples_cover_reasoning_or_calls"),
        (WritesOtherCalls, "test_written_calls_are_parsed_back"),
        (WritesOtherCloser, "test_written_calls_are_parsed_back"),
        (WritesOtherCloser, "test_the_grammar_matches_written_calls"),
        (WritesNothing, "test_written_calls_are_parsed_back"),
        (ConstrainsToOtherCalls, "test_the_grammar_matches_written_calls"),
        (ConstrainsSingleCallsOnly, "test_the_grammar_matches_written_calls"),
        (WritesNothing, "test_the_grammar_matches_written_calls"),
        (StreamsOtherArguments, "test_streamed_arguments_are_those_of_the_call"),
        (StreamsNothing, "test_strings_are_streamed_as_they_grow"),
    ],
)
def test_contract_detects_broken_parser(broken: type[Tagged | Notes], test: str) -> None:
    class Contract(ParserContract):
        parser = broken
        samples = broken.samples

    with pytest.raises((AssertionError, ParserError)):
        getattr(Contract(), test)()


class TestNotes(ParserContract):
    parser = Notes
    samples = Notes.samples


def test_a_parser_without_samples_is_rejected_with_the_way_to_add_them() -> None:
    with pytest.raises(PluginError, match="'notes'"):

        class Contract(ParserContract):
            parser = Notes


def test_samples_are_found_in_the_package_of_the_parser() -> None:
    class Contract(ParserContract):
        parser = HermesParser

    assert Contract.samples is hermes_samples.SAMPLES
