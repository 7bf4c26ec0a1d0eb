"""/openapi.json: every endpoint has examples that work, and errors have the formats in which they are sent."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.responses import Response
from mlx_host._http.app import application, mount
from mlx_host.api import Api, ApiSettings, Endpoints
from mlx_host.api.http import examples, new_router
from mlx_host.errors import RequestError
from mlx_host.events import (
    EmbeddingBatch,
    Event,
    Explained,
    Finished,
    ImageCompleted,
    ImagesStarted,
    Segment,
    Started,
    TextDelta,
    Tokenized,
    TranscriptionStarted,
)
from mlx_host.testing import FakeService
from mlx_host.testing.in_process import request
from pydantic import BaseModel

from scripts.reference import http_api, installed
from tests.support.speech import SAMPLES

DOCUMENT: Any = http_api.openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
# An endpoint that only rejects, and one that returns a page.
WITHOUT_EXAMPLES = {"POST /v1/images/variations", "GET /docs"}

TEXT = (Started(prompt_tokens=3), TextDelta("Paris."), Finished(completion_tokens=1))
VECTORS = EmbeddingBatch((0, 1), array("f", [0.5, 1.5]).tobytes())
SEGMENT = Segment(
    "Hello.",
    start=0.0,
    end=1.0,
    seek=0,
    token_ids=(1,),
    temperature=0.0,
    avg_logprob=-0.5,
    compression_ratio=1.0,
    no_speech_prob=0.0,
)
SPEECH = (TranscriptionStarted(prompt_tokens=3, duration=2.5, language="english"), SEGMENT, Finished())
IMAGE = (ImagesStarted(prompt_tokens=5, width=512, height=512, steps=4), ImageCompleted(0, 7, 3, b"image"), Finished())
EXPLAINED = (
    Started(prompt_tokens=0),
    Explained(
        messages=[{"role": "user", "content": "Hi."}],
        tools=[],
        prompt="<|im_start|>user",
        generation_prompt="",
        prompt_tokens=31,
        dropped={"messages[0].reasoning_content": "The chat template does not render it."},
    ),
    Finished(),
)
SCRIPTS: dict[str, Sequence[Event]] = {
    "/v1/embeddings": (Started(prompt_tokens=3), VECTORS, Finished()),
    "/v1/images/generations": IMAGE,
    "/v1/images/edits": IMAGE,
    "/v1/audio/transcriptions": SPEECH,
    "/v1/audio/translations": SPEECH,
    **dict.fromkeys(("/v1/explain", "/v1/explain/responses", "/v1/explain/messages"), EXPLAINED),
    "/tokenize": (Started(prompt_tokens=0), Tokenized((1, 2), ("a", "b")), Finished()),
}


def content(operation: Any, media_type: str = "application/json") -> Any:
    return operation["responses"]["200"]["content"][media_type]


def test_every_endpoint_has_examples_and_a_summary() -> None:
    assert len(OPERATIONS) > 25
    for name, operation in OPERATIONS.items():
        assert " " in operation["summary"], name
        if name in WITHOUT_EXAMPLES:
            continue
        assert all("example" in each for each in operation["responses"]["200"]["content"].values()), name
        for body in operation.get("requestBody", {"content": {}})["content"].values():
            assert "example" in body, name


def form(fields: dict[str, Any], files: dict[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """The fields and files as multipart/form-data, with the header."""
    parts = [(f'name="{name}"', str(value).encode()) for name, value in fields.items() if name not in files]
    parts += [(f'name="{name}"; filename="{name}"', data) for name, data in files.items()]
    body = b"".join(b"--x\r\ncontent-disposition: form-data; %b\r\n\r\n%b\r\n" % (h.encode(), v) for h, v in parts)
    return body + b"--x--\r\n", {"content-type": "multipart/form-data; boundary=x"}


def shape(value: Any) -> Any:
    """The keys of objects, at every level; lists are compared by their first item, other values not at all."""
    match value:
        case dict():
            return {key: shape(each) for key, each in value.items()}
        case [first, *_]:
            return [shape(first)]
        case list():
            return []
        case _:
            return ...


# Paths with a parameter need an object that exists.
@pytest.mark.parametrize(
    "name", [name for name, each in OPERATIONS.items() if "requestBody" in each and "{" not in name]
)
def test_an_example_request_has_a_response_like_the_example(name: str) -> None:
    operation = OPERATIONS[name]
    method, path = name.split()
    api = installed.plugins().apis.found[operation["tags"][0]]
    ((media_type, body),) = operation["requestBody"]["content"].items()
    sent = body["example"]
    headers: dict[str, str] = {}
    if media_type == "multipart/form-data":
        files = {"file": (SAMPLES / "capital.mp3").read_bytes()} if "file" in sent else {"image": b"image"}
        sent, headers = form(sent, files)
    service = FakeService(SCRIPTS.get(path, TEXT), token_count=3)
    response = asyncio.run(request(api, service, method, path, sent, headers=headers))
    assert response.status == 200, response.text
    assert "x-mlx-host-ignored" not in response.headers
    assert shape(response.json()) == shape(content(operation)["example"])


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/health/live", "/health/ready", "/v1/queue/stats"])
def test_an_example_response_has_the_fields_of_the_real_one(path: str) -> None:
    operation = OPERATIONS[f"GET {path}"]
    api = installed.plugins().apis.found[operation["tags"][0]]
    response = asyncio.run(request(api, FakeService(), "GET", path))

    def named(value: Any) -> Any:
        return json.loads(json.dumps(value).replace('"demo:smollm2"', '"fake"'))

    assert shape(response.json()) == shape(named(content(operation)["example"]))


def test_errors_are_documented_in_the_format_of_the_api() -> None:
    for name, operation in OPERATIONS.items():
        assert "422" not in operation["responses"], name
        if "requestBody" in operation:
            (error,) = operation["responses"]["400"]["content"].values()
            keys = {"type", "error"} if "messages" in name else {"error"}
            assert set(error["example"]) == set(error["schema"]["properties"]) == keys, name
    assert OPERATIONS["POST /v1/chat/completions"]["responses"]["429"]["content"]
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]


class Body(BaseModel):
    text: str


class Shouting(Endpoints):
    """An API of a plugin, with an error format of its own."""

    def __init__(self, error: Callable[[RequestError], Response]) -> None:
        self._error = error

    def router(self) -> APIRouter:
        router = new_router()

        @router.post("/shout", response_model=None, **examples({"text": "a"}, "A", response_type="text/plain"))
        async def shout(body: Body) -> Response:
            """Shout a text.

            In upper case.
            """
            return Response(body.text.upper(), media_type="text/plain")

        return router

    def error(self, error: RequestError) -> Response:
        return self._error(error)


def document(error: Callable[[RequestError], Response]) -> Any:
    api = Api(name="shouting", settings=ApiSettings, create=lambda service, settings: Shouting(error), summary="shouts")
    return application([mount(api, "mlx-host-shout 1.0", FakeService(), ApiSettings())]).openapi()


def test_an_api_of_a_plugin_is_described_like_ours() -> None:
    described = document(lambda error: Response(error.message.upper(), error.status, media_type="text/plain"))
    assert described["tags"] == [{"name": "shouting", "description": "shouts (mlx-host-shout 1.0)"}]
    operation = described["paths"]["/shout"]["post"]
    assert (operation["summary"], operation["description"]) == ("Shout a text", "In upper case.")
    assert operation["requestBody"]["content"]["application/json"]["example"] == {"text": "a"}
    assert content(operation, "text/plain")["example"] == "A"
    error = operation["responses"]["400"]["content"]["text/plain"]
    assert error["example"] == error["example"].upper()


def test_an_api_that_cannot_format_errors_is_described_without_them() -> None:
    def fail(error: RequestError) -> Response:
        raise ValueError("a fault of the plugin")

    operation = document(fail)["paths"]["/shout"]["post"]
    assert set(operation["responses"]) == {"200"}
