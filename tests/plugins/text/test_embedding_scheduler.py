"""Rows of several requests share forward passes: what goes into a pass, and what comes out to whom."""

from __future__ import annotations

import math
from array import array
from collections.abc import Container, Generator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host.errors import ContextLengthExceededError, EngineError, InvalidRequestError, RequestError
from mlx_host.events import EmbeddingBatch, Event, Finished, Started
from mlx_host.requests import EmbeddingRequest
from mlx_host_text.embedding_scheduler import (
    EmbeddingInput,
    EmbeddingScheduler,
    EmbeddingTask,
    InputType,
    LengthBucketQueue,
    shorten,
)

BROKEN = 666
NOT_FINITE = 667


class Letters:
    """A token is a letter's code; a vector is the number of tokens, their sum, and 1."""

    context_length: int | None = 40
    vocabulary_size = 1000
    dimensions = 3
    matryoshka_dimensions: Container[int] = (2,)

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def encode(
        self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None
    ) -> list[EmbeddingInput]:
        return [EmbeddingInput([ord(letter) for letter in text][:limit]) for text in texts]

    def encode_images(
        self, urls: Sequence[str], texts: Sequence[str], input_type: InputType | None
    ) -> Generator[None, None, list[EmbeddingInput]]:
        """An image is the letters of its URL, for each of which it takes a turn."""
        encoded = []
        for url, text in zip(urls, texts, strict=True):
            yield
            encoded.append(EmbeddingInput([ord(letter) for letter in text + url], image=url))
        return encoded

    def embed(self, rows: Sequence[EmbeddingInput]) -> list[bytes | None]:
        self.batches.append([len(row.tokens) for row in rows])
        if any(BROKEN in row.tokens for row in rows):
            raise ZeroDivisionError("out of luck")
        return [None if NOT_FINITE in row.tokens else vector_of(row.tokens) for row in rows]


def vector_of(tokens: Sequence[int]) -> bytes:
    return array("f", [len(tokens), sum(tokens), 1]).tobytes()


def ask(*inputs: Any, **more: Any) -> EmbeddingRequest:
    return EmbeddingRequest(id="r", model="m", inputs=inputs, **more)


def drive(*generators: Iterator[Event | None]) -> list[list[Event] | RequestError]:
    """Advance all in turn until they end, as the engine does."""
    said: list[list[Event] | RequestError] = [[] for _ in generators]
    running = dict(enumerate(generators))
    while running:
        for number, events in list(running.items()):
            try:
                event = next(events)
            except StopIteration:
                del running[number]
            except RequestError as error:
                said[number] = error
                del running[number]
            else:
                answered = said[number]
                if event is not None and isinstance(answered, list):
                    answered.append(event)
    return said


def answer(embeddings: EmbeddingScheduler, request: EmbeddingRequest) -> list[Event]:
    (said,) = drive(embeddings.generate(request))
    if isinstance(said, RequestError):
        raise said
    return said


def vectors(events: list[Event] | RequestError) -> list[bytes]:
    """An answer's vectors in the order of the inputs."""
    assert isinstance(events, list)
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, EmbeddingBatch):
            size = len(event.vectors) // len(event.indices)
            for place, index in enumerate(event.indices):
                assert index not in found
                found[index] = event.vectors[place * size : (place + 1) * size]
    return [found[index] for index in sorted(found)]


def embeddings(batch_tokens: int = 64, max_padding_tokens: int = 8) -> tuple[EmbeddingScheduler, Letters]:
    letters = Letters()
    return EmbeddingScheduler(letters, batch_tokens=batch_tokens, max_padding_tokens=max_padding_tokens), letters


texts = st.lists(st.text("abc", min_size=1, max_size=40), min_size=1, max_size=30)


@given(st.lists(texts, min_size=1, max_size=4), st.integers(1, 100), st.integers(0, 20))
def test_everybody_gets_their_own_vectors_in_order(
    requests: list[list[str]], batch_tokens: int, max_padding: int
) -> None:
    subject, letters = embeddings(batch_tokens, max_padding)
    said = drive(*(subject.generate(ask(*inputs)) for inputs in requests))
    for inputs, events in zip(requests, said, strict=True):
        assert isinstance(events, list)
        assert events[0] == Started(prompt_tokens=sum(map(len, inputs)))
        assert events[-1] == Finished()
        assert vectors(events) == [vector_of([ord(letter) for letter in text]) for text in inputs]
    for lengths in letters.batches:
        computed = len(lengths) * max(lengths)
        assert computed <= batch_tokens or len(lengths) == 1
        assert computed - sum(lengths) <= max(max_padding, computed / 8)


def test_requests_that_arrive_together_share_a_pass() -> None:
    subject, letters = embeddings()
    drive(*(subject.generate(ask(text)) for text in ("abc", "abcd", "ab")))
    assert letters.batches == [[2, 3, 4]]


def test_a_request_that_arrives_in_the_round_of_a_pass_is_in_it() -> None:
    subject, letters = embeddings()
    first, second = subject.generate(ask("abc")), subject.generate(ask("abcd"))
    assert isinstance(next(first), Started)
    assert next(first) is None
    assert isinstance(next(second), Started)
    assert isinstance(next(first), EmbeddingBatch)
    assert letters.batches == [[3, 4]]


def test_long_and_short_rows_do_not_pad_each_other() -> None:
    subject, letters = embeddings(batch_tokens=1000)
    answer(subject, ask("a" * 40, "ab", "abc", "b" * 39))
    assert sorted(letters.batches) == [[2, 3], [39, 40]]


def test_a_short_request_is_not_behind_all_of_a_long_one() -> None:
    subject, letters = embeddings(batch_tokens=32)
    long, short = subject.generate(ask(*["a" * 30] * 50)), subject.generate(ask("a"))
    for _ in range(3):
        next(long)
    said: list[Event | None] = []
    while not any(isinstance(event, EmbeddingBatch) for event in said):
        said.append(next(short))
        next(long)
    assert len(letters.batches) <= 4


def test_one_pass_a_turn_and_a_turn_for_others_between_two() -> None:
    subject, letters = embeddings(batch_tokens=32)
    events = subject.generate(ask(*["a" * 30] * 3))
    steps = list(events)
    assert [type(step) for step in steps] == [Started, *[type(None), EmbeddingBatch] * 3, Finished]
    assert len(letters.batches) == 3


def test_many_texts_are_read_in_turns() -> None:
    subject, _ = embeddings()
    steps = list(subject.generate(ask(*["a"] * 600)))
    assert steps[:3] == [None, None, Started(prompt_tokens=600)]


def test_a_cancelled_request_takes_its_rows_along() -> None:
    subject, letters = embeddings(batch_tokens=4)
    leaves, stays = subject.generate(ask("aaa", "bbb", "ccc")), subject.generate(ask("ddd"))
    next(leaves)
    next(stays)
    leaves.close()  # type: ignore[attr-defined]  # it is a generator
    assert vectors(drive(stays)[0]) == [vector_of([100] * 3)]
    assert letters.batches == [[3]]


def test_a_failed_pass_ends_all_requests_in_it_and_no_other() -> None:
    subject, _ = embeddings(batch_tokens=200, max_padding_tokens=0)
    broken, beside, apart = drive(
        subject.generate(ask([BROKEN, 1, 2])), subject.generate(ask("abc", "a" * 30)), subject.generate(ask("b" * 30))
    )
    for each in (broken, beside):
        assert isinstance(each, EngineError)
        assert "ZeroDivisionError: out of luck" in str(each)
    assert vectors(apart) == [vector_of([98] * 30)]
    assert vectors(answer(subject, ask("abc"))) == [vector_of([97, 98, 99])]


def test_a_vector_that_is_not_finite_ends_its_request_alone() -> None:
    subject, letters = embeddings()
    spoilt, beside = drive(subject.generate(ask("abc", [NOT_FINITE])), subject.generate(ask("b")))
    assert isinstance(spoilt, EngineError)
    assert "input 1 is not finite" in str(spoilt)
    assert vectors(beside) == [vector_of([98])]
    assert letters.batches == [[1, 1, 3]]


@pytest.mark.parametrize("inputs", [["a" * 41], [list(range(41))]])
def test_too_long_an_input_is_refused_with_both_numbers(inputs: list[Any]) -> None:
    subject, letters = embeddings()
    with pytest.raises(ContextLengthExceededError, match=r"40 tokens.* 41 tokens") as refusal:
        answer(subject, ask(*inputs))
    assert refusal.value.param == "input"
    with pytest.raises(ContextLengthExceededError) as refusal:
        answer(subject, ask("abc", *inputs))
    assert refusal.value.param == "input[1]"
    assert letters.batches == []


def test_truncate_cuts_what_is_too_long_and_counts_what_is_left() -> None:
    subject, _ = embeddings()
    events = answer(subject, ask("a" * 41, [1] * 50, truncate=True))
    assert events[0] == Started(prompt_tokens=80)
    assert vectors(events) == [vector_of([97] * 40), vector_of([1] * 40)]


@pytest.mark.parametrize("token", [-1, 1000, 2**70])
def test_token_ids_that_the_model_does_not_have_are_refused(token: int) -> None:
    with pytest.raises(InvalidRequestError, match=rf"token id {token} is out of range \(0 to 999\)"):
        answer(embeddings()[0], ask([1, token]))


def test_an_input_without_tokens_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="has no tokens"):
        answer(embeddings()[0], ask("a", ""))


def test_dimensions_the_model_is_trained_for_are_unit_vectors() -> None:
    subject, _ = embeddings()
    (vector,) = vectors(answer(subject, ask("abc", dimensions=2)))
    assert array("f", vector).tolist() == pytest.approx([3 / math.hypot(3, 294), 294 / math.hypot(3, 294)])
    assert vectors(answer(subject, ask("abc", dimensions=3))) == [vector_of([97, 98, 99])]


@pytest.mark.parametrize("dimensions", [1, 4])
def test_other_dimensions_are_refused(dimensions: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"does not support {dimensions}") as refusal:
        answer(embeddings()[0], ask("abc", dimensions=dimensions))
    assert refusal.value.param == "dimensions"


def test_images_are_encoded_over_several_turns_with_their_texts() -> None:
    subject, _ = embeddings()
    steps = list(subject.generate(ask("", "b", images=("a", "a"))))
    assert steps[:3] == [None, None, Started(prompt_tokens=3)]
    assert vectors([each for each in steps if each is not None]) == [vector_of([97]), vector_of([98, 97])]


def test_an_image_with_token_ids_is_rejected() -> None:
    with pytest.raises(InvalidRequestError, match="not with token ids"):
        answer(embeddings()[0], ask("", [1], images=("a", "a")))


def test_nothing_is_left_of_a_vector_of_zeros() -> None:
    assert shorten(array("f", [0, 0, 1]).tobytes(), 2) == bytes(8)


def test_tasks_take_turns() -> None:
    pool = LengthBucketQueue(budget=4, max_padding_tokens=0)
    first, second = EmbeddingTask(), EmbeddingTask()
    pool.add(first, [EmbeddingInput([0] * 4)] * 3)
    pool.add(second, [EmbeddingInput([0] * 3)] * 2)
    order = [pool.take()[0].task for _ in range(5)]
    assert order == [first, second, first, second, first]
    assert pool.take() == []
