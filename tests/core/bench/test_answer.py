from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host._bench.http_client import RawResponse
from mlx_host._bench.result import RequestFailure, RequestResult, parse_response

from tests.support.stub_server import DONE, chunk, usage


def recording(*pieces: tuple[float, bytes], status: int = 200, failure: str | None = None) -> RawResponse:
    return RawResponse(sent=10.0, status=status, pieces=list(pieces), ended=99.0, failure=failure)


def answered(*pieces: tuple[float, bytes]) -> RequestResult:
    answer = parse_response(recording(*pieces))
    assert isinstance(answer, RequestResult)
    return answer


def failed(*pieces: tuple[float, bytes], status: int = 200, failure: str | None = None) -> str:
    result = parse_response(recording(*pieces, status=status, failure=failure))
    assert isinstance(result, RequestFailure)
    return result.reason


def test_times_are_those_of_the_chunks_that_carry_text() -> None:
    role = chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    finish = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    answer = answered(
        (11.0, role),
        (12.0, chunk("a")),
        (12.5, chunk("b")),
        (14.0, chunk("c")),
        (15.0, finish),
        (16.0, usage(3) + DONE),
    )
    assert answer.time_to_first_token == 2.0
    assert answer.chunk_gaps == [0.5, 1.5]
    assert answer.time_per_token == 1.0
    assert (answer.prompt_tokens, answer.completion_tokens) == (7, 3)


def test_tokens_are_those_of_usage_not_the_chunks() -> None:
    answer = answered((12.0, chunk("one two")), (14.0, chunk(" three four five")), (14.0, usage(5) + DONE))
    assert answer.completion_tokens == 5
    assert answer.time_per_token == 0.5
    assert answer.chunk_gaps == [2.0]


def test_a_single_token_has_no_time_between_tokens() -> None:
    answer = answered((12.0, chunk("one")), (14.0, usage(1) + DONE))
    assert answer.time_per_token is None
    assert answer.chunk_gaps == []


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "tool_calls"])
def test_reasoning_and_tool_calls_are_tokens_too(field: str) -> None:
    piece = chunk(choices=[{"index": 0, "delta": {"content": None, field: "x"}}])
    assert answered((12.0, piece), (13.0, chunk("a")), (13.0, usage(2) + DONE)).time_to_first_token == 2.0


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_how_the_stream_was_cut_never_shows(cuts: list[int]) -> None:
    stream = b": keep-alive\r\n\r\n" + chunk("a") + chunk("b").replace(b"\n", b"\r\n") + chunk("ä") + usage(3) + DONE
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [(float(end), stream[start:end]) for start, end in pairwise(edges)]
    answer = answered(*pieces)
    ends = [stream.index(text) + len(text) for text in (b'"a"', b'"b"')]
    assert len(answer.chunk_times) == 3
    assert answer.completion_tokens == 3
    # A chunk has come when the piece with its last byte has.
    assert all(arrival > end for arrival, end in zip(answer.chunk_times, ends, strict=False))


def test_a_refusal_is_told_with_its_status_and_message() -> None:
    body = b'{"error": {"message": "The queue is full.", "type": "rate_limit_error"}}'
    assert failed((11.0, body), status=429) == "HTTP 429: The queue is full."


@pytest.mark.parametrize(("body", "told"), [(b"<h1>Bad Gateway</h1>", "<h1>Bad Gateway</h1>"), (b"", "(empty body)")])
def test_a_refusal_without_openai_s_body_is_told_as_it_came(body: bytes, told: str) -> None:
    assert failed((11.0, body), status=502) == f"HTTP 502: {told}"


def test_an_error_event_is_a_failure() -> None:
    event = b'event: error\ndata: {"error": {"message": "The model failed.", "code": "engine_failed"}}\n\n'
    assert failed((11.0, chunk("a")), (12.0, event)) == "error event: The model failed."


def test_a_cut_connection_is_a_failure() -> None:
    assert failed((11.0, chunk("a")), (12.0, chunk("b"))) == "the connection was closed after 2 chunks of text"


def test_why_the_bytes_stopped_is_told() -> None:
    assert failed((11.0, chunk("a")), failure="Connection reset by peer") == "Connection reset by peer"
    assert failed(status=0, failure="connection failed: Connection refused") == "connection failed: Connection refused"


def test_without_usage_nothing_is_guessed() -> None:
    assert "no usage" in failed((11.0, chunk("a") + DONE))


def test_an_answer_without_text_is_a_failure() -> None:
    assert failed((11.0, usage(4) + DONE)) == "no text in a completion of 4 tokens"


def test_a_chunk_that_is_not_json_is_a_failure() -> None:
    assert failed((11.0, b"data: nonsense\n\n")) == "a chunk is not JSON: nonsense"
