"""What a user can do when the server is ready: a request to try, and where the documentation is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Sequence

from mlx_host.api import ModelState, ModelStatus
from mlx_host.requests import ChatRequest, EmbeddingRequest, ImageGenerationRequest, Request, TranscriptionRequest

# The API and the path for a type of request, and the fields of a body to try.
TRIES: Sequence[tuple[type[Request], str, str, dict[str, object]]] = (
    (ChatRequest, "chat", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello!"}]}),
    (EmbeddingRequest, "embeddings", "/v1/embeddings", {"input": "Hello!"}),
    (ImageGenerationRequest, "images", "/v1/images/generations", {"prompt": "A lighthouse at dawn"}),
)


def next_steps(url: str, models: Sequence[ModelStatus], apis: Collection[str]) -> Iterator[str]:
    """Yield the lines for a terminal: a request for the first ready model, and the address of the documentation.

    `apis` are the names of the enabled APIs.
    """
    commands = (_command(url, model, apis) for model in models if model.state is ModelState.READY)
    if (command := next(filter(None, commands), None)) is not None:
        yield f"Try it: {command}"
    if "home" in apis:
        yield f"API documentation: {url}/docs"


def _command(url: str, model: ModelStatus, apis: Collection[str]) -> str | None:
    supported = model.capabilities.supported_requests if model.capabilities is not None else ()
    for kind, api, path, body in TRIES:
        if kind in supported and api in apis:
            data = shlex.quote(json.dumps({"model": model.name, **body}))
            return f"curl {url}{path} -H 'Content-Type: application/json' -d {data}"
    if TranscriptionRequest in supported and "audio" in apis:
        name = shlex.quote(f"model={model.name}")
        return f"curl {url}/v1/audio/transcriptions -F {name} -F file=@RECORDING.mp3"
    return None
