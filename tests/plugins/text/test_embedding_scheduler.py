"""Inputs of several requests share forward passes: the batches, and the results of each request."""

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

FAILING_TOKEN = 666
NAN_TOKEN = 667


class LetterEmbedder:
    """An Embedder whose tokens are code points and whose vectors are (number of tokens, sum of tokens, 1)."""

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
        """An image's tokens are its URL; each image takes one turn."""
        encoded = []
        for url, text in zip(urls, texts, strict=True):
            yield
            encoded.append(EmbeddingInput([ord(letter) for letter in text + url], image=url))
        return encoded

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[bytes | None]:
        self.batches.append([len(each.tokens) for each in inputs])
        if any(FAILING_TOKEN in each.tokens for each in inputs):
            raise ZeroDivisionError("out of memory")
        return [None if NAN_TOKEN in each.tokens else vector_of(each.tokens) for each in inputs]


def vector_of(tokens: Sequence[int]) -> bytes:
    return array("f", [len(tokens), sum(tokens), 1]).tobytes()


def embedding_request(*inputs: Any, **more: Any) -> EmbeddingRequest:
    return EmbeddingRequest(id="r", model="m", inputs=inputs, **more)


def drive(*generators: Iterator[Event | None]) -> list[list[Event] | RequestError]:
    """Advance all generators in turn until they end, as the engine does; return the events or the error of each."""
    results: list[list[Event] | RequestError] = [[] for _ in generators]
    running = dict(enumerate(generators))
    while running:
        for number, events in list(running.items()):
            try:
                event = next(events)
            except StopIteration:
                del running[number]
            except RequestError as error:
                results[number] = error
                del running[number]
            else:
                result = results[number]
                if event is not None and isinstance(result, list):
                    result.append(event)
    return results


def run(scheduler: EmbeddingScheduler, request: EmbeddingRequest) -> list[Event]:
    (result,) = drive(scheduler.generate(request))
    if isinstance(result, RequestError):
        raise result
    return result


def vectors(events: list[Event] | RequestError) -> list[bytes]:
    """The vectors in the order of the inputs."""
    assert isinstance(events, list)
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, EmbeddingBatch):
            size = len(event.vectors) // len(event.indices)
            for position, index in enumerate(event.indices):
                assert index not in found
                found[index] = event.vectors[position * size : (position + 1) * size]
    return [found[index] for index in sorted(found)]


def new_scheduler(batch_tokens: int = 64, max_padding_tokens: int = 8) -> tuple[EmbeddingScheduler, LetterEmbedder]:
    embedder = LetterEmbedder()
    return EmbeddingScheduler(embedder, batch_tokens=batch_tokens, max_padding_tokens=max_padding_tokens), embedder


texts = st.lists(st.text("abc", min_size=1, max_size=40), min_size=1, max_size=30)


@given(st.lists(texts, min_size=1, max_size=4), st.integers(1, 100), st.integers(0, 20))
def test_each_request_receives_its_vectors_in_order(
    requests: list[list[str]], batch_tokens: int, max_padding: int
) -> None:
    scheduler, embedder = new_scheduler(batch_tokens, max_padding)
    results = drive(*(scheduler.generate(embedding_request(*inputs)) for inputs in requests))
    for inputs, events in zip(requests, results, strict=True):
        assert isinstance(events, list)
        assert events[0] == Started(prompt_tokens=sum(map(len, inputs)))
        assert events[-1] == Finished()
        assert vectors(events) == [vector_of([ord(letter) for letter in text]) for text in inputs]
    for lengths in embedder.batches:
        computed = len(lengths) * max(lengths)
        assert computed <= batch_tokens or len(lengths) == 1
        assert computed - sum(lengths) <= max(max_padding, computed / 8)


def test_requests_that_arrive_together_share_a_pass() -> None:
    scheduler, embedder = new_scheduler()
    drive(*(scheduler.generate(embedding_request(text)) for text in ("abc", "abcd", "ab")))
    assert embedder.batches == [[2, 3, 4]]


def test_a_request_that_arrives_in_the_same_turn_joins_the_pass() -> None:
    scheduler, embedder = new_scheduler()
    first, second = scheduler.generate(embedding_request("abc")), scheduler.generate(embedding_request("abcd"))
    assert isinstance(next(first), Started)
    assert next(first) is None
    assert isinstance(next(second), Started)
    assert isinstance(next(first), EmbeddingBatch)
    assert embedder.batches == [[3, 4]]


def test_inputs_of_different_lengths_do_not_share_a_pass() -> None:
    scheduler, embedder = new_scheduler(batch_tokens=1000)
    run(scheduler, embedding_request("a" * 40, "ab", "abc", "b" * 39))
    assert sorted(embedder.batches) == [[2, 3], [39, 40]]


def test_a_short_request_does_not_wait_for_all_of_a_long_one() -> None:
    scheduler, embedder = new_scheduler(batch_tokens=32)
    long, short = scheduler.generate(embedding_request(*["a" * 30] * 50)), scheduler.generate(embedding_request("a"))
    for _ in range(3):
        next(long)
    events: list[Event | None] = []
    while not any(isinstance(event, EmbeddingBatch) for event in events):
        events.append(next(short))
        next(long)
    assert len(embedder.batches) <= 4


def test_a_request_yields_between_passes() -> None:
    scheduler, embedder = new_scheduler(batch_tokens=32)
    events = scheduler.generate(embedding_request(*["a" * 30] * 3))
    steps = list(events)
    assert [type(step) for step in steps] == [Started, *[type(None), EmbeddingBatch] * 3, Finished]
    assert len(embedder.batches) == 3


def test_many_texts_are_tokenized_over_several_turns() -> None:
    scheduler, _ = new_scheduler()
    steps = list(scheduler.generate(embedding_request(*["a"] * 600)))
    assert steps[:3] == [None, None, Started(prompt_tokens=600)]


def test_cancelling_removes_the_pending_inputs() -> None:
    scheduler, embedder = new_scheduler(batch_tokens=4)
    cancelled, kept = (
        scheduler.generate(embedding_request("aaa", "bbb", "ccc")),
        scheduler.generate(embedding_request("ddd")),
    )
    next(cancelled)
    next(kept)
    cancelled.close()  # type: ignore[attr-defined]  # it is a generator
    assert vectors(drive(kept)[0]) == [vector_of([100] * 3)]
    assert embedder.batches == [[3]]


def test_a_failed_pass_fails_its_requests_only() -> None:
    scheduler, _ = new_scheduler(batch_tokens=200, max_padding_tokens=0)
    failed, same_pass, other_pass = drive(
        scheduler.generate(embedding_request([FAILING_TOKEN, 1, 2])),
        scheduler.generate(embedding_request("abc", "a" * 30)),
        scheduler.generate(embedding_request("b" * 30)),
    )
    for each in (failed, same_pass):
        assert isinstance(each, EngineError)
        assert "ZeroDivisionError: out of memory" in str(each)
    assert vectors(other_pass) == [vector_of([98] * 30)]
    assert vectors(run(scheduler, embedding_request("abc"))) == [vector_of([97, 98, 99])]


def test_a_vector_that_is_not_finite_fails_its_request_only() -> None:
    scheduler, embedder = new_scheduler()
    failed, other = drive(
        scheduler.generate(embedding_request("abc", [NAN_TOKEN])), scheduler.generate(embedding_request("b"))
    )
    assert isinstance(failed, EngineError)
    assert "input 1 is not finite" in str(failed)
    assert vectors(other) == [vector_of([98])]
    assert embedder.batches == [[1, 1, 3]]


@pytest.mark.parametrize("inputs", [["a" * 41], [list(range(41))]])
def test_an_input_beyond_the_context_is_rejected_with_both_lengths(inputs: list[Any]) -> None:
    scheduler, embedder = new_scheduler()
    with pytest.raises(ContextLengthExceededError) as error:
        run(scheduler, embedding_request(*inputs))
    assert (error.value.param, error.value.limit, error.value.prompt_tokens) == ("input", 40, 41)
    with pytest.raises(ContextLengthExceededError) as error:
        run(scheduler, embedding_request("abc", *inputs))
    assert error.value.param == "input[1]"
    assert embedder.batches == []


def test_truncated_inputs_count_their_remaining_tokens() -> None:
    scheduler, _ = new_scheduler()
    events = run(scheduler, embedding_request("a" * 41, [1] * 50, truncate=True))
    assert events[0] == Started(prompt_tokens=80)
    assert vectors(events) == [vector_of([97] * 40), vector_of([1] * 40)]


@pytest.mark.parametrize("token", [-1, 1000, 2**70])
def test_token_ids_out_of_range_are_rejected(token: int) -> None:
    with pytest.raises(InvalidRequestError, match=str(token)) as error:
        run(new_scheduler()[0], embedding_request([1, token]))
    assert error.value.param == "input"


def test_an_input_without_tokens_is_rejected() -> None:
    with pytest.raises(InvalidRequestError) as error:
        run(new_scheduler()[0], embedding_request("a", ""))
    assert error.value.param == "input[1]"


def test_shortened_vectors_are_unit_vectors() -> None:
    scheduler, _ = new_scheduler()
    (vector,) = vectors(run(scheduler, embedding_request("abc", dimensions=2)))
    assert array("f", vector).tolist() == pytest.approx([3 / math.hypot(3, 294), 294 / math.hypot(3, 294)])
    assert vectors(run(scheduler, embedding_request("abc", dimensions=3))) == [vector_of([97, 98, 99])]


@pytest.mark.parametrize("dimensions", [1, 4])
def test_unsupported_dimensions_are_rejected(dimensions: int) -> None:
    with pytest.raises(InvalidRequestError) as error:
        run(new_scheduler()[0], embedding_request("abc", dimensions=dimensions))
    assert error.value.param == "dimensions"


def test_images_are_encoded_over_several_turns_with_their_texts() -> None:
    scheduler, _ = new_scheduler()
    steps = list(scheduler.generate(embedding_request("", "b", images=("a", "a"))))
    assert steps[:3] == [None, None, Started(prompt_tokens=3)]
    assert vectors([each for each in steps if each is not None]) == [vector_of([97]), vector_of([98, 97])]


def test_an_image_with_token_ids_is_rejected() -> None:
    with pytest.raises(InvalidRequestError) as error:
        run(new_scheduler()[0], embedding_request("", [1], images=("a", "a")))
    assert error.value.param == "input"


def test_a_shortened_vector_of_zeros_stays_zero() -> None:
    assert shorten(array("f", [0, 0, 1]).tobytes(), 2) == bytes(8)


def test_tasks_take_turns() -> None:
    queue = LengthBucketQueue(budget=4, max_padding_tokens=0)
    first, second = EmbeddingTask(), EmbeddingTask()
    queue.add(first, [EmbeddingInput([0] * 4)] * 3)
    queue.add(second, [EmbeddingInput([0] * 3)] * 2)
    order = [queue.take()[0].task for _ in range(5)]
    assert order == [first, second, first, second, first]
    assert queue.take() == []
