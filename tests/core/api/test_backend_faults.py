"""Backend output that breaks the contract is a 500 that names the backend, never a 200 with wrong or invalid data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.client import error_of, post
from tests.support.plugin_projects import install_plugins
from tests.support.server import ServerProcess, running_server

EMBEDDINGS, GENERATIONS, TRANSCRIPTIONS = "/v1/embeddings", "/v1/images/generations", "/v1/audio/transcriptions"
PLUGIN = """
from array import array

from mlx_host import hookimpl
from mlx_host.backend import Backend, Model, Options
from mlx_host.events import EmbeddingBatch, Finished, ImageCompleted, ImagesStarted, EventBatch, Started, TextDelta
from mlx_host.requests import EmbeddingRequest, ImageGenerationRequest, TranscriptionRequest

SERVES = (EmbeddingRequest, ImageGenerationRequest, TranscriptionRequest)
ONE = array("f", [1.0]).tobytes()
EMBEDDED = {
    "missing": [EmbeddingBatch((1,), ONE)],
    "no indices": [EmbeddingBatch((), ONE)],
    "out of range": [EmbeddingBatch((9, 1), ONE * 2)],
    "not finite": [EmbeddingBatch((0, 1), array("f", [1.0, float("nan")]).tobytes())],
}


class Faulty(Model):
    supported_requests = SERVES

    def generate(self, request):
        if isinstance(request, EmbeddingRequest):
            yield Started(prompt_tokens=2)
            yield from EMBEDDED[request.inputs[0]]
        elif isinstance(request, ImageGenerationRequest):
            yield ImagesStarted(prompt_tokens=1, width=16, height=16, steps=1)
            yield EventBatch((ImageCompleted(0, 1, 1, b"image"), Finished()))
            return
        else:
            yield Started(prompt_tokens=1)
            yield TextDelta("hello")
        yield Finished()


@hookimpl
def register_backends():
    return [Backend("faulty", lambda load: Faulty(), Options, supported_requests=SERVES, needs_model=False)]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    installed = install_plugins(tmp_path_factory.mktemp("faulty"), {"faulty": PLUGIN})
    with running_server("--backend", "faulty", plugins=[installed]) as running:
        yield running


def fault_of(response: httpx2.Response) -> str:
    error = error_of(response, 500)
    assert error["code"] == "engine_failed"
    assert "ackend 'faulty'" in error["message"]
    return str(error["message"])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "Finished without vectors for 1 of 2 inputs"),
        ("no indices", "EmbeddingBatch has no indices"),
        ("out of range", "EmbeddingBatch has index 9 in a request with 2 inputs"),
        ("not finite", "returned vector 1 with a value that is not finite"),
    ],
)
@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_vectors(server: ServerProcess, fault: str, words: str, encoding_format: str) -> None:
    body = {"input": [fault, "another"], "encoding_format": encoding_format}
    assert words in fault_of(post(server, body, EMBEDDINGS))


@pytest.mark.parametrize("stream", [False, True])
def test_images(server: ServerProcess, stream: bool) -> None:
    body: dict[str, Any] = {"prompt": "a cat", "n": 2, "size": "16x16", "stream": stream}
    assert "Finished without image 1 in a request for 2 images" in fault_of(post(server, body, GENERATIONS))


def test_transcripts(server: ServerProcess) -> None:
    response = httpx2.post(f"{server.url}{TRANSCRIPTIONS}", files={"file": ("a.wav", b"audio")}, verify=False)
    assert "Started, expected TranscriptionStarted" in fault_of(response)
