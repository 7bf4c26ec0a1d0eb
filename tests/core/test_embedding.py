"""Inputs of several requests share forward passes: how they are batched, and that each request gets its vectors."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host.embedding import Embedder, Embeddings, InputType, Job, Pool, Row, shortened
from mlx_host.errors import (
    ContextLengthExceededError,
    EngineError,
    InvalidRequestError,
    RequestError,
    UnsupportedRequestError,
)
from mlx_host.events import EmbeddingBatch, Event, Finished, Started
from mlx_host.requests import EmbeddingRequest

BROKEN = 666
NOT_FINITE = 667


class Letters(Embedder):
    """An embedder whose tokens are character codes; a vector is the number of tokens, their sum, and 1."""

    context_length = 40
    vocabulary = 1000
    dimensions = 3
    shorter = (2,)

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def encode(self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None) -> list[Row]:
        return [Row([ord(letter) for letter in text][:limit]) for text in texts]

    def embed(self, rows: Sequence[Row]) -> list[bytes | None]:
        self.batches.append([len(row.tokens) for row in rows])
        if any(BROKEN in row.tokens for row in rows):
            raise ZeroDivisionError("out of luck")
        return [None if NOT_FINITE in row.tokens else vector_of(row.tokens) for row in rows]


def vector_of(tokens: Sequence[int]) -> bytes:
    return array("f", [len(tokens), sum(tokens), 1]).tobytes()


def ask(*inputs: Any, **more: Any) -> EmbeddingRequest:
    return EmbeddingRequest(id="r", model="m", inputs=inputs, **more)


def drive(*generators: Iterator[Event | None]) -> list[list[Event] | RequestError]:
    """Advance all requests in turn until they end, like the engine."""
    output: list[list[Event] | RequestError] = [[] for _ in generators]
    running = dict(enumerate(generators))
    while running:
        for number, events in list(running.items()):
            try:
                event = next(events)
            except StopIteration:
                del running[number]
            except RequestError as error:
                output[number] = error
                del running[number]
            else:
                answered = output[number]
                if event is not None and isinstance(answered, list):
                    answered.append(event)
    return output


def run_request(embeddings: Embeddings, request: EmbeddingRequest) -> list[Event]:
    (output,) = drive(embeddings.generate(request))
    if isinstance(output, RequestError):
        raise output
    return output


def vectors(events: list[Event] | RequestError) -> list[bytes]:
    """The vectors of an output in the order of the inputs."""
    assert isinstance(events, list)
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, EmbeddingBatch):
            size = len(event.vectors) // len(event.indices)
            for place, index in enumerate(event.indices):
                assert index not in found
                found[index] = event.vectors[place * size : (place + 1) * size]
    return [found[index] for index in sorted(found)]


def embeddings(batch_tokens: int = 64, slack: int = 8) -> tuple[Embeddings, Letters]:
    letters = Letters()
    return Embeddings(letters, batch_tokens=batch_tokens, slack=slack), letters


texts = st.lists(st.text("abc", min_size=1, max_size=40), min_size=1, max_size=30)


@given(st.lists(texts, min_size=1, max_size=4), st.integers(1, 100), st.integers(0, 20))
def test_every_request_gets_its_vectors_in_order(requests: list[list[str]], batch_tokens: int, slack: int) -> None:
    subject, letters = embeddings(batch_tokens, slack)
    output = drive(*(subject.generate(ask(*inputs)) for inputs in requests))
    for inputs, events in zip(requests, output, strict=True):
        assert isinstance(events, list)
        assert events[0] == Started(prompt_tokens=sum(map(len, inputs)))
        assert events[-1] == Finished()
        assert vectors(events) == [vector_of([ord(letter) for letter in text]) for text in inputs]
    for lengths in letters.batches:
        computed = len(lengths) * max(lengths)
        assert computed <= batch_tokens or len(lengths) == 1
        assert computed - sum(lengths) <= max(slack, computed / 8)


def test_requests_that_arrive_together_share_a_pass() -> None:
    subject, letters = embeddings()
    drive(*(subject.generate(ask(text)) for text in ("abc", "abcd", "ab")))
    assert letters.batches == [[2, 3, 4]]


def test_a_request_that_arrives_in_the_step_of_a_pass_is_included() -> None:
    subject, letters = embeddings()
    first, second = subject.generate(ask("abc")), subject.generate(ask("abcd"))
    assert isinstance(next(first), Started)
    assert next(first) is None
    assert isinstance(next(second), Started)
    assert isinstance(next(first), EmbeddingBatch)
    assert letters.batches == [[3, 4]]


def test_long_and_short_inputs_are_not_in_one_batch() -> None:
    subject, letters = embeddings(batch_tokens=1000)
    run_request(subject, ask("a" * 40, "ab", "abc", "b" * 39))
    assert sorted(letters.batches) == [[2, 3], [39, 40]]


def test_a_short_request_does_not_wait_for_a_long_one() -> None:
    subject, letters = embeddings(batch_tokens=32)
    long, short = subject.generate(ask(*["a" * 30] * 50)), subject.generate(ask("a"))
    for _ in range(3):
        next(long)
    output: list[Event | None] = []
    while not any(isinstance(event, EmbeddingBatch) for event in output):
        output.append(next(short))
        next(long)
    assert len(letters.batches) <= 4


def test_there_is_one_pass_per_step() -> None:
    subject, letters = embeddings(batch_tokens=32)
    events = subject.generate(ask(*["a" * 30] * 3))
    steps = list(events)
    assert [type(step) for step in steps] == [Started, *[type(None), EmbeddingBatch] * 3, Finished]
    assert len(letters.batches) == 3


def test_many_texts_are_tokenized_over_several_steps() -> None:
    subject, _ = embeddings()
    steps = list(subject.generate(ask(*["a"] * 600)))
    assert steps[:3] == [None, None, Started(prompt_tokens=600)]


def test_inputs_of_a_cancelled_request_are_removed() -> None:
    subject, letters = embeddings(batch_tokens=4)
    leaves, stays = subject.generate(ask("aaa", "bbb", "ccc")), subject.generate(ask("ddd"))
    next(leaves)
    next(stays)
    leaves.close()  # type: ignore[attr-defined]  # it is a generator
    assert vectors(drive(stays)[0]) == [vector_of([100] * 3)]
    assert letters.batches == [[3]]


def test_a_failed_pass_ends_only_the_requests_in_it() -> None:
    subject, _ = embeddings(batch_tokens=200, slack=0)
    broken, other, apart = drive(
        subject.generate(ask([BROKEN, 1, 2])), subject.generate(ask("abc", "a" * 30)), subject.generate(ask("b" * 30))
    )
    for each in (broken, other):
        assert isinstance(each, EngineError)
        assert "ZeroDivisionError: out of luck" in str(each)
    assert vectors(apart) == [vector_of([98] * 30)]
    assert vectors(run_request(subject, ask("abc"))) == [vector_of([97, 98, 99])]


def test_a_vector_that_is_not_finite_ends_only_its_request() -> None:
    subject, letters = embeddings()
    spoilt, other = drive(subject.generate(ask("abc", [NOT_FINITE])), subject.generate(ask("b")))
    assert isinstance(spoilt, EngineError)
    assert "input 1 is not finite" in str(spoilt)
    assert vectors(other) == [vector_of([98])]
    assert letters.batches == [[1, 1, 3]]


@pytest.mark.parametrize("inputs", [["a" * 41], [list(range(41))]])
def test_too_long_input_is_rejected_with_both_lengths(inputs: list[Any]) -> None:
    subject, letters = embeddings()
    with pytest.raises(ContextLengthExceededError, match=r"40 tokens.* 41 tokens") as raised:
        run_request(subject, ask(*inputs))
    assert raised.value.param == "input"
    with pytest.raises(ContextLengthExceededError) as raised:
        run_request(subject, ask("abc", *inputs))
    assert raised.value.param == "input[1]"
    assert letters.batches == []


def test_truncated_inputs_are_counted_truncated() -> None:
    subject, _ = embeddings()
    events = run_request(subject, ask("a" * 41, [1] * 50, truncate=True))
    assert events[0] == Started(prompt_tokens=80)
    assert vectors(events) == [vector_of([97] * 40), vector_of([1] * 40)]


@pytest.mark.parametrize("token", [-1, 1000, 2**70])
def test_token_ids_out_of_range_are_rejected(token: int) -> None:
    with pytest.raises(InvalidRequestError, match=rf"no token {token}; this model's are 0 to 999"):
        run_request(embeddings()[0], ask([1, token]))


def test_an_input_without_tokens_is_rejected() -> None:
    with pytest.raises(InvalidRequestError, match="has no tokens"):
        run_request(embeddings()[0], ask("a", ""))


def test_supported_dimensions_are_unit_vectors() -> None:
    subject, _ = embeddings()
    (vector,) = vectors(run_request(subject, ask("abc", dimensions=2)))
    assert array("f", vector).tolist() == pytest.approx([3 / math.hypot(3, 294), 294 / math.hypot(3, 294)])
    assert vectors(run_request(subject, ask("abc", dimensions=3))) == [vector_of([97, 98, 99])]


@pytest.mark.parametrize("dimensions", [1, 4])
def test_unsupported_dimensions_are_rejected(dimensions: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"cannot give {dimensions}") as raised:
        run_request(embeddings()[0], ask("abc", dimensions=dimensions))
    assert raised.value.param == "dimensions"


def test_images_are_rejected_by_a_text_only_model() -> None:
    with pytest.raises(UnsupportedRequestError, match="no images"):
        run_request(embeddings()[0], ask("", images=("data:image/png;base64,AAAA",)))


def test_a_zero_vector_is_not_normalized() -> None:
    assert shortened(array("f", [0, 0, 1]).tobytes(), 2) == bytes(8)


def test_tasks_take_turns() -> None:
    pool = Pool(budget=4, slack=0)
    first, second = Job(), Job()
    pool.add(first, [Row([0] * 4)] * 3)
    pool.add(second, [Row([0] * 3)] * 2)
    order = [pool.take()[0].job for _ in range(5)]
    assert order == [first, second, first, second, first]
    assert pool.take() == []
