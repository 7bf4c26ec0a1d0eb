"""The output processor: its output does not depend on how a model's events are batched."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host._host.output_processor import OutputProcessor
from mlx_host._host.parser_selection import ParserSelection
from mlx_host._host.unparsed_markup import MarkupSignatures
from mlx_host.api import ChatEvent, ChoiceCompleted, ChoiceDelta, OutputCompleted
from mlx_host.events import ChoiceFinished, Event, Finished, Progress, Started, StopReason, TextDelta
from mlx_host.grammar import JsonValue
from mlx_host.parsing import Content, Marker, Parser, Part, Reasoning, ToolCall
from mlx_host.requests import ChatRequest


class Bracketed(Parser):
    """Parses `[name]` as a call and `(thought)` as reasoning; holds back only an open bracket."""

    name = "bracketed"
    description = "brackets"
    held = ""

    def feed(self, text: str) -> list[Part]:
        parts: list[Part] = []
        for char in text:
            self.held += char
            if self.held[0] == "[" and self.tools:
                if char == "]":
                    parts.append(ToolCall(self.held[1:-1], "{}", self.held))
                    self.held = ""
            elif self.held[0] == "(" and self.reasoning:
                if char == ")":
                    parts += [Marker("("), Reasoning(self.held[1:-1]), Marker(")")]
                    self.held = ""
            else:
                parts.append(Content(char))
                self.held = ""
        return parts

    def finish(self) -> list[Part]:
        return [Content(self.held)] if self.held else []


TOOLS = ({"type": "function", "function": {"name": "f"}},)


def ask(**more: Any) -> ChatRequest:
    return ChatRequest(id="r", model="m", messages=[], **more)


BOTH = ParserSelection(Bracketed, Bracketed)


def read(request: ChatRequest, events: list[Event], batch: int, parsers: ParserSelection = BOTH) -> list[ChatEvent]:
    """Process batches of a size until the output is complete."""
    processor = OutputProcessor(request, parsers, MarkupSignatures([], None))
    out: list[ChatEvent] = []
    for at in range(0, len(events), batch):
        out += processor.process(events[at : at + batch])
        if processor.finished:
            break
    assert processor.finished
    return out


def summary(out: list[ChatEvent], choice: int = 0) -> tuple[str, str, list[str], str]:
    """Content, reasoning, names of calls and finish reason of a choice."""
    parts = [part for event in out if isinstance(event, ChoiceDelta) and event.choice == choice for part in event.parts]
    (reason,) = [event.reason for event in out if isinstance(event, ChoiceCompleted) and event.choice == choice]
    return (
        "".join(part.text for part in parts if isinstance(part, Content)),
        "".join(part.text for part in parts if isinstance(part, Reasoning)),
        [part.name for part in parts if isinstance(part, ToolCall)],
        reason,
    )


def answer_of(pieces: str, **finished: Any) -> list[Event]:
    return [Started(prompt_tokens=5, cached_tokens=2), *map(TextDelta, pieces), Finished(**finished)]


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
def test_batch_size_has_no_effect(batch: int) -> None:
    out = read(ask(tools=TOOLS), answer_of("(hm)yes[f]no[g]", completion_tokens=16), batch)
    assert isinstance(out[0], Started)
    assert summary(out) == ("yesno", "hm", ["f", "g"], "tool_calls")
    assert out[-1] == OutputCompleted(prompt_tokens=5, cached_tokens=2, completion_tokens=16, reasoning_tokens=4)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
def test_first_call_ends_the_output_without_parallel_tool_calls(batch: int) -> None:
    out = read(ask(tools=TOOLS, parallel_tool_calls=False), answer_of("ab[f]cd[g]", completion_tokens=10), batch)
    assert summary(out) == ("ab", "", ["f"], "tool_calls")
    assert out[-1] == OutputCompleted(prompt_tokens=5, cached_tokens=2, completion_tokens=5)


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_choices_end_independently(batch: int) -> None:
    events = [
        Started(prompt_tokens=1),
        TextDelta("a", choice=1),
        TextDelta("b", choice=0),
        ChoiceFinished("length", 1),
        TextDelta("late", choice=1),
        TextDelta("c", choice=0),
        Finished(reason="stop"),
    ]
    out = read(ask(n=2), events, batch)
    assert summary(out, 0) == ("bc", "", [], "stop")
    assert summary(out, 1) == ("a", "", [], "length")
    assert out[-1] == OutputCompleted(prompt_tokens=1, cached_tokens=0, completion_tokens=3)


def test_text_held_back_is_emitted_at_the_end() -> None:
    assert summary(read(ask(tools=TOOLS), answer_of("a[f", reason="length"), 1)) == ("a[f", "", [], "length")


def test_adjacent_parts_of_a_batch_are_joined() -> None:
    out = read(ask(), answer_of("abc"), 100)
    assert [event.parts for event in out if isinstance(event, ChoiceDelta)] == [[Content("abc")]]


def test_progress_is_forwarded() -> None:
    events = [Started(prompt_tokens=9), Progress("prefill", 4, 9), Finished()]
    assert Progress("prefill", 4, 9) in read(ask(), events, 2)


def test_call_ids_are_unique() -> None:
    out = read(ask(tools=TOOLS), answer_of("[f][f]"), 100)
    ids = [
        part.id for event in out if isinstance(event, ChoiceDelta) for part in event.parts if isinstance(part, ToolCall)
    ]
    assert len(set(ids)) == 2
    assert all(ids)


@pytest.mark.parametrize(
    ("parsers", "expected"),
    [
        (ParserSelection(), ("(hm)yes[f]", "", [], "stop")),
        (ParserSelection(reasoning=Bracketed), ("yes[f]", "hm", [], "stop")),
        (ParserSelection(tools=Bracketed), ("(hm)yes", "", ["f"], "tool_calls")),
        (ParserSelection(Bracketed, Bracketed), ("yes", "hm", ["f"], "tool_calls")),
        (ParserSelection(Bracketed, type("Other", (Bracketed,), {})), ("yes", "hm", ["f"], "tool_calls")),
    ],
)
def test_reasoning_and_tool_call_parsers_are_combined(
    parsers: ParserSelection, expected: tuple[str, str, list[str], str]
) -> None:
    assert summary(read(ask(tools=TOOLS), answer_of("(hm)yes[f]"), 4, parsers)) == expected


@pytest.mark.parametrize("batch", [1, 100])
def test_markup_in_constrained_content_is_content(batch: int) -> None:
    form = JsonValue(True)
    text = '(hm) {"a": "[f] (x)"}'
    out = read(ask(tools=TOOLS, output_format=form), answer_of(text), batch)
    assert summary(out) == (' {"a": "[f] (x)"}', "hm", [], "stop")
    assert summary(read(ask(tools=TOOLS, output_format=form), answer_of("[f]"), batch)) == ("", "", ["f"], "tool_calls")


class Closed(Bracketed):
    """Parses `.` as a marker."""

    def feed(self, text: str) -> list[Part]:
        return [Marker(part.text) if part == Content(".") else part for part in super().feed(text)]


def test_markers_are_parsed_only_after_constrained_content() -> None:
    out = read(ask(output_format=JsonValue(True)), answer_of(".1.5.."), 1, ParserSelection(Closed, Closed))
    assert summary(out) == ("1.5", "", [], "stop")


@pytest.mark.parametrize(("reason", "stop"), [("length", None), ("stop", "!")])
def test_a_forced_call_that_is_cut_off_is_dropped(reason: StopReason, stop: str | None) -> None:
    events = answer_of("[f]", reason=reason, stop=stop)
    events[-1:-1] = [TextDelta("[g")]
    assert summary(read(ask(tools=TOOLS, tool_choice="required"), events, 1)) == ("", "", ["f"], finish_of(reason))
    assert summary(read(ask(tools=TOOLS), events, 1)) == ("[g", "", ["f"], finish_of(reason))


def finish_of(reason: StopReason) -> str:
    return "tool_calls" if reason == "stop" else reason
