"""The body of POST /v1/embeddings.

Source: the OpenAI SDK's `types/embedding_create_params.py`; `truncate`, `input_type` and `image_url` are additions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from mlx_host.api.ignored_fields import KnownFields, ignored_fields
from mlx_host.api.text import read_inputs


def _image_urls(value: Any) -> list[dict[str, Any]] | None:
    """Validate a URL, an object {"url": URL}, or a list of these; return objects."""
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    images = [item if isinstance(item, dict) else {"url": item} for item in items]
    if not images or any(not isinstance(image.get("url"), str) or not image["url"] for image in images):
        raise ValueError('must be a URL, an object {"url": URL}, or a list of these')
    return images


class EmbeddingBody(BaseModel):
    """POST /v1/embeddings; every field except `input` may be null, which means its default."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    input: Annotated[
        list[str] | list[list[int]],
        PlainValidator(read_inputs, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ] = Field(default=[""], validate_default=False)
    image_url: Annotated[
        list[dict[str, Any]] | None, PlainValidator(_image_urls, json_schema_input_type=Any), KnownFields("url")
    ] = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    truncate: bool | None = None
    input_type: Literal["query", "document", "search_query", "search_document", "passage"] | None = None

    def ignored(self) -> list[str]:
        """Return the paths of fields that are set and have no effect."""
        return ignored_fields(self)
