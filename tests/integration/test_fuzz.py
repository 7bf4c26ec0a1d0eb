"""Random invalid requests: each gets a response, a 4xx if it is invalid, and the server keeps working."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.support.client import children, post, text_script, wait_for_queue
from tests.support.load_client import Reply, connect, parse, request, run_concurrently, send_request
from tests.support.server import FAST_BLAS, ServerProcess, running_server

# The number of requests of each kind.
FAULTY, DAMAGED, DAMAGED_HTTP, FORMS = 4000, 1000, 300, 500
# For each endpoint: with a body, and without.
FROM_DOCUMENT = (40, 10)
FOR_A_REAL_MODEL = (12, 3)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that must be unchanged at the end."""
    with running_server("--backend", "scripted", "--parser", "qwen3", "--slots", "8", "--max-body-mb", "1") as running:
        (child,) = children(running)
        yield running
        wait_for_queue(running, 0)
        assert children(running) == [child]
        assert post(running, {"messages": text_script("fine")}).json()["choices"][0]["message"]["content"] == "fine"
        assert not any("Traceback" in line for line in running.lines)


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 5, 1.5, -0.0, 1e308, 10**18, -(10**18), 2**63, 2**64, 10**40),
    *(float("nan"), float("inf"), "", "0", "null", "x" * 5000, "\x00", "\ud800", "日本🦊", "a\r\nb: c"),
    *([], [[]], [None], ["x"] * 100, {}, {"": ""}, {"type": "function"}, {"type": "text", "text": "a"}, deep(60)),
]

WHOLE: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "sun"}]},
        *text_script("hello", " there"),
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
                "strict": True,
            },
        }
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "seed": 3,
    "stop": ["x", "y"],
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"5": 1.0},
    "n": 2,
    "max_tokens": 5,
    "presence_penalty": 0.1,
    "response_format": {"type": "text"},
    "structured_outputs": None,
    "service_tier": "auto",
    "chat_template_kwargs": {"a": 1},
    "user": "me",
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a body."""
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


PLACES = list(places(WHOLE))


def mutated(dice: random.Random) -> bytes:
    """A request with one to three invalid values."""
    body: Any = copy.deepcopy(WHOLE)
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        *way, last = dice.choice(PLACES[1:])
        inside = body
        for key in way:
            inside = inside[key] if isinstance(inside, dict | list) and _has(inside, key) else {}
        if isinstance(inside, dict | list) and _has(inside, last):
            if dice.random() < 0.2:
                del inside[last]
            else:
                inside[last] = copy.deepcopy(dice.choice(VALUES))
    if dice.random() < 0.1:
        body[dice.choice(["x", "日本", "a\nb", "\ud800", "functions", "x" * 300])] = dice.choice(VALUES)
    return request(json.dumps(body).encode())


def _has(inside: Any, key: Any) -> bool:
    return key in inside if isinstance(inside, dict) else isinstance(key, int) and key < len(inside)


def broken(dice: random.Random) -> bytes:
    """A request with damaged bytes."""
    body = bytearray(json.dumps(WHOLE).encode())
    for _ in range(dice.choice([1, 2, 10])):
        at = dice.randrange(max(len(body), 1))
        match dice.randrange(4):
            case 0:
                del body[at : at + dice.randrange(1, 20)]
            case 1:
                body[at : at + 1] = dice.randbytes(1)
            case 2:
                body[at:at] = dice.randbytes(dice.randrange(1, 20))
            case 3:
                del body[at + 1 :]
    kind = dice.choice(["application/json"] * 5 + ["text/plain", "", "multipart/form-data; boundary=x", "a/b; c=\xff"])
    path = dice.choice(
        ["/v1/chat/completions"] * 8 + ["/v1/embeddings", "/v1/audio/transcriptions", "/v1/models/x", "//"]
    )
    return request(bytes(body), path, kind)


def check(sent: bytes, reply: Reply) -> int:
    """Check that it is a response or an OpenAI error, and return its status."""
    assert reply.status < 500, (sent, reply)
    assert reply.headers["x-request-id"]
    if reply.status >= 400:
        error = json.loads(reply.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, (sent, reply)
        assert error["message"]
    return reply.status


def send_all(server: ServerProcess, requests: list[bytes]) -> Counter[int]:
    statuses: Counter[int] = Counter()

    async def send(sent: bytes) -> None:
        statuses[check(sent, await send_request(server, sent))] += 1

    asyncio.run(asyncio.wait_for(run_concurrently(send, requests, concurrency=16), 200))
    return statuses


def test_invalid_fields(server: ServerProcess) -> None:
    dice = random.Random(1)
    statuses = send_all(server, [mutated(dice) for _ in range(FAULTY)])
    assert set(statuses) == {200, 400}
    assert min(statuses.values()) > FAULTY / 20


def test_damaged_bodies(server: ServerProcess) -> None:
    dice = random.Random(2)
    statuses = send_all(server, [broken(dice) for _ in range(DAMAGED)])
    assert statuses[400] > DAMAGED / 4


def test_damaged_http(server: ServerProcess) -> None:
    dice = random.Random(3)
    statuses: Counter[int] = Counter()

    async def send(_: int) -> None:
        sent = bytearray(request(json.dumps(WHOLE).encode()))
        for _ in range(dice.choice([1, 3, 10])):
            sent[dice.randrange(120)] = dice.randrange(256)
        async with connect(server) as (reader, writer):
            writer.write(sent)
            # Some are now incomplete requests; do not wait for a response to them.
            with contextlib.suppress(TimeoutError, ConnectionError):
                came = await asyncio.wait_for(reader.read(), 1)
                status = parse(came).status
                assert status < 500, (sent, came)
                statuses[status] += 1

    asyncio.run(asyncio.wait_for(run_concurrently(send, range(DAMAGED_HTTP), concurrency=32), 200))
    assert statuses[400] > DAMAGED_HTTP / 2


FORM_PARTS = (
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF',
    b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n\x89PNG',
    b'Content-Disposition: form-data; name="prompt"\r\n\r\na fox',
    b'Content-Disposition: form-data; name="response_format"\r\n\r\njson',
    b'Content-Disposition: form-data; name="timestamp_granularities[]"\r\n\r\nword',
    b'Content-Disposition: form-data; name="n"\r\n\r\n2',
)


def damaged_form(dice: random.Random) -> bytes:
    """A form of the audio or image endpoints with damaged bytes."""
    parts = dice.sample(FORM_PARTS, dice.randrange(len(FORM_PARTS) + 1))
    body = bytearray(b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n")
    for _ in range(dice.choice([0, 1, 3])):
        at = dice.randrange(len(body) + 1)
        body[at : at + dice.randrange(8)] = dice.choice((dice.randbytes(3), b"\r\n", b"--x", b'"', b""))
    path = dice.choice(("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"))
    return request(bytes(body), path, dice.choice(("multipart/form-data; boundary=x",) * 5 + ("multipart/form-data",)))


def test_damaged_forms(server: ServerProcess) -> None:
    dice = random.Random(4)
    statuses = send_all(server, [damaged_form(dice) for _ in range(FORMS)])
    assert set(statuses) == {400}


def check_response(case: schemathesis.Case[Any], response: Any) -> None:
    """Check a response against the document."""
    assert response.status_code < 500, (case, response.text)
    assert response.headers["x-request-id"]
    (media_type,) = response.headers.get("content-type") or [""]
    if media_type.startswith("application/json"):
        json.loads(response.text)
        case.validate_response(response, checks=[response_schema_conformance])
    case.validate_response(response, checks=[status_code_conformance])


def fuzz(
    server: ServerProcess, examples: tuple[int, int], change: Callable[[Any], Any] = lambda body: body
) -> set[str]:
    """Send requests that the OpenAPI document allows, with changed bodies; return the paths."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found: Iterable[Any] = schema.get_all_operations()
    operations = [each.ok() for each in found]
    for operation in operations:

        @settings(
            max_examples=examples[0] if operation.body else examples[1],
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def try_it(case: schemathesis.Case[Any]) -> None:
            case.body = change(case.body)
            check_response(case, case.call(timeout=120))

        try_it()
    return {operation.path for operation in operations}


def test_requests_that_the_openapi_document_allows(server: ServerProcess) -> None:
    assert {"/v1/chat/completions", "/v1/models/{name}", "/v1/messages"} <= fuzz(server, FROM_DOCUMENT)


def small(body: Any) -> Any:
    """The body of a request that generates a few tokens."""
    if not isinstance(body, dict):
        return body
    limits = {"max_tokens": 2, "max_completion_tokens": 2, "max_output_tokens": 2, "n": 2, "best_of": 2}
    return {
        name: min(value, limits[name]) if name in limits and isinstance(value, int | float) else value
        for name, value in body.items()
    }


def test_requests_to_a_real_model() -> None:
    options = ("--backend", "lm", "--model", "demo:smollm2", "--parser", "qwen3", "--max-tokens", "2", *FAST_BLAS)
    with running_server(*options, "--max-body-mb", "1") as smollm2:
        fuzz(smollm2, FOR_A_REAL_MODEL, small)
        answer = post(smollm2, {"messages": [{"role": "user", "content": "What is the capital of France?"}]})
        assert answer.status_code == 200
        assert children(smollm2)
        assert not any("Traceback" in line for line in smollm2.lines)
