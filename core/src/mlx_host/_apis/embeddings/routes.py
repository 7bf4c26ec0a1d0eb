"""POST /v1/embeddings: texts or token ids in, vectors out, in the order of the inputs."""

from __future__ import annotations

import asyncio
import base64
import uuid
from array import array
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from mlx_host._host import Exchange, Host
from mlx_host.api import json_io, sse
from mlx_host.api.text_inputs import read_inputs
from mlx_host.errors import InvalidRequest
from mlx_host.events import Embedded
from mlx_host.requests import EmbeddingRequest

# So many vectors are written before other requests get a turn.
WRITE_AT_ONCE = 64

INPUT_TYPES: dict[str, Literal["query", "document"]] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "search_document": "document",
    "passage": "document",
}


def read_images(value: Any) -> list[str]:
    """Take a URL, OpenAI's {"url": URL}, or a list of them."""
    items = value if isinstance(value, list) else [value]
    urls = [item.get("url") if isinstance(item, dict) else item for item in items]
    if not urls or any(not isinstance(url, str) or not url for url in urls):
        raise ValueError('must be a URL, {"url": URL}, or a list of them')
    return [str(url) for url in urls]


class EmbeddingBody(BaseModel):
    """The body of POST /v1/embeddings; every field but the input may be null, which means its default."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    input: Annotated[
        list[str] | list[list[int]],
        PlainValidator(read_inputs, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ] = Field(default=[""], validate_default=False)
    image_url: Annotated[list[str], PlainValidator(read_images, json_schema_input_type=Any)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    truncate: bool | None = None
    input_type: Literal["query", "document", "search_query", "search_document", "passage"] | None = None

    def ignored(self) -> list[str]:
        """Name the fields that were given, not null, and change nothing here."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value is not None)


def to_request(body: EmbeddingBody) -> EmbeddingRequest:
    """Translate a body; InvalidRequest names what cannot be honoured."""
    images = body.image_url or []
    inputs: list[Any] = list(body.input)
    if images:
        if inputs == [""]:
            inputs *= len(images)
        if len(inputs) != len(images):
            raise InvalidRequest(
                f"image_url has {len(images)} images for {len(inputs)} inputs; give one for each, or no input.",
                param="image_url",
            )
    elif "input" not in body.model_fields_set:
        raise InvalidRequest("input is missing: a string, a list of strings, or token ids.", param="input")
    elif "" in inputs:
        index = inputs.index("")
        param = "input" if len(inputs) == 1 else f"input[{index}]"
        raise InvalidRequest(f"{param} is an empty string.", param=param)
    return EmbeddingRequest(
        id=f"embd-{uuid.uuid4().hex}",
        model=body.model or "",
        inputs=inputs,
        images=images,
        dimensions=body.dimensions,
        truncate=body.truncate is True,
        input_type=INPUT_TYPES[body.input_type] if body.input_type else None,
    )


def as_base64(vector: bytes) -> bytes:
    """Write a vector as OpenAI's clients ask for it: the bytes of little-endian float32."""
    return b'"%b"' % base64.b64encode(vector)


def as_floats(vector: bytes) -> bytes:
    """Write a vector as numbers; nine digits tell every float32 from every other."""
    values = array("f", vector)
    return ("[" + ",".join(["%.9g"] * len(values)) % tuple(values) + "]").encode()


async def collect(exchange: Exchange, write: Callable[[bytes], bytes]) -> list[bytes]:
    """Write the answer's objects, in the order of the inputs, as their vectors come."""
    request = exchange.request
    assert isinstance(request, EmbeddingRequest)
    written = [b""] * len(request.inputs)
    count = 0
    async with exchange:
        async for events in exchange:
            for event in events:
                if not isinstance(event, Embedded):
                    continue
                size = len(event.vectors) // len(event.indices)
                for place, index in enumerate(event.indices):
                    vector = write(event.vectors[place * size : (place + 1) * size])
                    written[index] = b'{"object":"embedding","index":%d,"embedding":%b}' % (index, vector)
                    count += 1
                    if count % WRITE_AT_ONCE == 0:
                        await asyncio.sleep(0)
    return written


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoint."""

    @router.post("/v1/embeddings", response_model=None)
    async def embeddings(body: EmbeddingBody, http: Request) -> Response:
        exchange = host.ask(to_request(body))
        write = as_base64 if body.encoding_format == "base64" else as_floats
        written = await sse.while_connected(http.receive, collect(exchange, write))
        name = host.model(exchange.request.model).name
        tokens = exchange.prompt_tokens
        tail = json_io.dumps({"model": name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
        content = b'{"object":"list","data":[%b],%b' % (b",".join(written), json_io.utf8(tail)[1:])
        return Response(content, media_type="application/json", headers=json_io.ignored_header(body.ignored()))
