from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host._bench.http_client import RawResponse
from mlx_host._bench.result import RequestFailure, RequestResult, parse_response

from tests.support.stub_server import DONE, chunk, usage


def raw_response(*pieces: tuple[float, bytes], status: int = 200, failure: str | None = None) -> RawResponse:
    return RawResponse(sent=10.0, status=status, pieces=list(pieces), ended=99.0, failure=failure)


def parsed(*pieces: tuple[float, bytes]) -> RequestResult:
    response = parse_response(raw_response(*pieces))
    assert isinstance(response, RequestResult)
    return response


def failed(*pieces: tuple[float, bytes], status: int = 200, failure: str | None = None) -> str:
    result = parse_response(raw_response(*pieces, status=status, failure=failure))
    assert isinstance(result, RequestFailure)
    return result.reason


def test_times_are_those_of_chunks_with_text() -> None:
    role = chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    finish = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    response = parsed(
        (11.0, role),
        (12.0, chunk("a")),
        (12.5, chunk("b")),
        (14.0, chunk("c")),
        (15.0, finish),
        (16.0, usage(3) + DONE),
    )
    assert response.time_to_first_token == 2.0
    assert response.chunk_gaps == [0.5, 1.5]
    assert response.time_per_token == 1.0
    assert (response.prompt_tokens, response.completion_tokens) == (7, 3)


def test_tokens_are_counted_by_usage_not_by_chunks() -> None:
    response = parsed((12.0, chunk("one two")), (14.0, chunk(" three four five")), (14.0, usage(5) + DONE))
    assert response.completion_tokens == 5
    assert response.time_per_token == 0.5
    assert response.chunk_gaps == [2.0]


def test_a_single_token_has_no_time_between_tokens() -> None:
    response = parsed((12.0, chunk("one")), (14.0, usage(1) + DONE))
    assert response.time_per_token is None
    assert response.chunk_gaps == []


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "tool_calls"])
def test_reasoning_and_tool_calls_are_tokens_too(field: str) -> None:
    piece = chunk(choices=[{"index": 0, "delta": {"content": None, field: "x"}}])
    assert parsed((12.0, piece), (13.0, chunk("a")), (13.0, usage(2) + DONE)).time_to_first_token == 2.0


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_result_does_not_depend_on_how_the_stream_is_split(cuts: list[int]) -> None:
    stream = b": keep-alive\r\n\r\n" + chunk("a") + chunk("b").replace(b"\n", b"\r\n") + chunk("ä") + usage(3) + DONE
    edges = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [(float(end), stream[start:end]) for start, end in pairwise(edges)]
    response = parsed(*pieces)
    ends = [stream.index(text) + len(text) for text in (b'"a"', b'"b"')]
    assert len(response.chunk_times) == 3
    assert response.completion_tokens == 3
    # A chunk has arrived when its last byte has.
    assert all(arrival > end for arrival, end in zip(response.chunk_times, ends, strict=False))


def test_an_error_response_is_reported_with_its_status_and_message() -> None:
    body = b'{"error": {"message": "The queue is full.", "type": "rate_limit_error"}}'
    assert failed((11.0, body), status=429) == "HTTP 429: The queue is full."


@pytest.mark.parametrize(
    ("body", "expected"), [(b"<h1>Bad Gateway</h1>", "<h1>Bad Gateway</h1>"), (b"", "(empty body)")]
)
def test_an_error_response_in_another_format_is_reported_unchanged(body: bytes, expected: str) -> None:
    assert failed((11.0, body), status=502) == f"HTTP 502: {expected}"


def test_an_error_event_is_a_failure() -> None:
    event = b'event: error\ndata: {"error": {"message": "The model failed.", "code": "engine_failed"}}\n\n'
    assert failed((11.0, chunk("a")), (12.0, event)) == "error event: The model failed."


def test_a_closed_connection_is_a_failure() -> None:
    assert failed((11.0, chunk("a")), (12.0, chunk("b"))) == "the connection was closed after 2 chunks of text"


def test_the_connection_error_is_reported() -> None:
    assert failed((11.0, chunk("a")), failure="Connection reset by peer") == "Connection reset by peer"
    assert failed(status=0, failure="connection failed: Connection refused") == "connection failed: Connection refused"


def test_a_stream_without_usage_is_a_failure() -> None:
    assert "no usage" in failed((11.0, chunk("a") + DONE))


def test_output_without_text_is_a_failure() -> None:
    assert failed((11.0, usage(4) + DONE)) == "no text in a completion of 4 tokens"


def test_a_chunk_that_is_not_json_is_a_failure() -> None:
    assert failed((11.0, b"data: nonsense\n\n")) == "a chunk is not JSON: nonsense"
