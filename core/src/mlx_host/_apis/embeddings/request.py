"""Translates the body of POST /v1/embeddings into a request."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from mlx_host._apis.embeddings.schema import EmbeddingBody
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import EmbeddingRequest

INPUT_TYPES: dict[str, Literal["query", "document"]] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "search_document": "document",
    "passage": "document",
}


def embedding_request(body: EmbeddingBody) -> EmbeddingRequest:
    """Translate a body; InvalidRequestError names an invalid field."""
    images = [image["url"] for image in body.image_url or ()]
    inputs: list[Any] = list(body.input)
    if images:
        if inputs == [""]:
            inputs *= len(images)
        if len(inputs) != len(images):
            raise InvalidRequestError(
                f"image_url has {len(images)} images for {len(inputs)} inputs; send one image per input or omit input.",
                param="image_url",
            )
    elif "input" not in body.model_fields_set:
        raise InvalidRequestError("input is missing; send a string, a list of strings, or token ids.", param="input")
    elif "" in inputs:
        index = inputs.index("")
        param = "input" if len(inputs) == 1 else f"input[{index}]"
        raise InvalidRequestError(f"{param} is an empty string.", param=param)
    return EmbeddingRequest(
        id=f"embd-{uuid.uuid4().hex}",
        model=body.model or "",
        inputs=inputs,
        images=images,
        dimensions=body.dimensions,
        truncate=body.truncate is True,
        input_type=INPUT_TYPES[body.input_type] if body.input_type else None,
    )
