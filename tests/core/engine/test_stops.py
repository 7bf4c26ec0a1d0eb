from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host._engine.stop_strings import with_stops
from mlx_host.events import ChoiceFinished, Event, Finished, Logprobs, Started, TextDelta, TokenLogprob, iter_events


def token(text: str, choice: int = 0) -> TextDelta:
    return TextDelta(text, choice=choice, logprobs=(Logprobs(TokenLogprob(text, -1.0, text.encode())),))


def stopped(pieces: Sequence[Event], stops: Sequence[str], n: int = 1) -> list[Event]:
    def model() -> Iterator[Event | None]:
        yield Started(prompt_tokens=1)
        yield from pieces
        yield Finished(
            reason="length", completion_tokens=sum(p.token_count for p in pieces if isinstance(p, TextDelta))
        )

    return [event for output in with_stops(model(), stops, n) if output is not None for event in iter_events(output)]


def text(events: Sequence[Event], choice: int = 0) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta) and e.choice == choice)


def shown_tokens(events: Sequence[Event]) -> list[str]:
    return [lp.chosen.token for e in events if isinstance(e, TextDelta) for lp in e.logprobs]


def finished(events: Sequence[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


@pytest.mark.parametrize(
    ("pieces", "stops", "shown"),
    [
        (["one", " two"], ["two"], "one "),
        (["one t", "w", "o three"], ["two"], "one "),
        (["one t", "w", "ist"], ["two"], "one twist"),
        (["ab"], ["ab"], ""),
        (["a", "a", "a", "b"], ["aab"], "a"),
        (["abab", "ac"], ["abac"], "ab"),
        (["ends with the beginning of en"], ["end."], "ends with the beginning of en"),
        # The first to be complete matches, not the first to begin.
        (["abc"], ["abc", "b"], "a"),
        (["a", "b", "c"], ["abc", "b"], "a"),
        # Of several that end at the same character, the longest matches.
        (["xabc"], ["c", "abc", "bc"], "x"),
        (["\n", "\n", "x"], ["\n\n"], ""),
        (["né", "ant"], ["éa"], "n"),
    ],
)
def test_text_before_the_stop_string_is_kept_exactly(pieces: list[str], stops: list[str], shown: str) -> None:
    events = stopped([token(piece) for piece in pieces], stops)
    assert text(events) == shown
    assert finished(events).reason == ("length" if shown == "".join(pieces) else "stop")


def reference(whole: str, stops: Sequence[str]) -> str:
    """A reference implementation, character by character."""
    for end in range(1, len(whole) + 1):
        ending = [stop for stop in stops if whole[:end].endswith(stop)]
        if ending:
            return whole[: end - max(map(len, ending))]
    return whole


@given(
    st.lists(st.text(alphabet="abc", max_size=4), max_size=12),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_result_does_not_depend_on_how_the_text_is_split(pieces: list[str], stops: list[str]) -> None:
    events = stopped([token(piece) for piece in pieces], stops)
    whole = "".join(pieces)
    assert text(events) == text(stopped([token(whole)], stops)) == reference(whole, stops)


def test_only_the_possible_beginning_of_a_stop_string_is_held_back() -> None:
    events = stopped([token("hello"), token(" wo"), token("rld")], ["wx"])
    assert [e.text for e in events if isinstance(e, TextDelta) and e.token_count] == ["hello", " wo", "rld"]


def test_logprobs_are_emitted_with_their_text() -> None:
    events = stopped([token("a"), token("b"), token("S"), token("T"), token("c")], ["STOP"])
    with_text = [(e.text, [lp.chosen.token for lp in e.logprobs]) for e in events if isinstance(e, TextDelta)]
    assert with_text == [("a", ["a"]), ("b", ["b"]), ("", []), ("", []), ("STc", ["S", "T", "c"]), ("", [])]


def test_logprobs_of_the_stop_string_are_removed() -> None:
    events = stopped([token("a"), token("b ST"), token("O"), token("P!")], ["STOP"])
    assert text(events) == "ab "
    assert shown_tokens(events) == ["a", "b ST"]


def test_logprobs_of_tokens_without_text_are_kept() -> None:
    events = stopped([token("a"), token(""), token("é")], ["x"])
    assert shown_tokens(events) == ["a", "", "é"]


def test_choices_stop_independently() -> None:
    pieces = [token(piece, choice) for piece, choice in itertools.product(["one", " two", " three"], [0, 1])]
    pieces[3] = token(" 2", 1)
    events = stopped(pieces, ["two"], n=2)
    assert (text(events, 0), text(events, 1)) == ("one ", "one 2 three")
    assert [e for e in events if isinstance(e, ChoiceFinished)] == [ChoiceFinished("stop", 0, stop="two")]
    assert finished(events).reason == "length"


def test_tokens_after_a_choice_has_stopped_are_not_counted() -> None:
    pieces = [token("stop", 0), token("a", 1), token("more", 0), token("b", 1)]
    assert finished(stopped(pieces, ["stop"], n=2)).completion_tokens == 3


def test_output_ends_when_all_choices_have_stopped() -> None:
    events = stopped([token("x", 0), token("x", 1), token("never", 0)], ["x"], n=2)
    assert finished(events) == Finished(reason="stop", completion_tokens=2, stop="x")
    assert text(events) == ""


def test_model_is_closed_when_it_is_stopped() -> None:
    closed = []

    def model() -> Iterator[Event | None]:
        try:
            yield Started(prompt_tokens=1)
            yield TextDelta("stop")
            yield TextDelta("more")
        finally:
            closed.append(True)

    turns = list(with_stops(model(), ["stop"], 1))
    assert turns[-1] is not None
    assert isinstance(iter_events(turns[-1])[-1], Finished)
    assert closed
