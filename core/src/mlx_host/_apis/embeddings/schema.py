"""The body of POST /v1/embeddings.

Source: the OpenAI SDK's `types/embedding_create_params.py`; `truncate`, `input_type` and `image_url` are additions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from mlx_host.api.text import read_inputs


def _image_urls(value: Any) -> list[str]:
    """Validate a URL, an object {"url": URL}, or a list of these."""
    items = value if isinstance(value, list) else [value]
    urls = [item.get("url") if isinstance(item, dict) else item for item in items]
    if not urls or any(not isinstance(url, str) or not url for url in urls):
        raise ValueError('must be a URL, an object {"url": URL}, or a list of these')
    return [str(url) for url in urls]


class EmbeddingBody(BaseModel):
    """POST /v1/embeddings; every field except `input` may be null, which means its default."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    input: Annotated[
        list[str] | list[list[int]],
        PlainValidator(read_inputs, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ] = Field(default=[""], validate_default=False)
    image_url: Annotated[list[str], PlainValidator(_image_urls, json_schema_input_type=Any)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    truncate: bool | None = None
    input_type: Literal["query", "document", "search_query", "search_document", "passage"] | None = None

    def ignored(self) -> list[str]:
        """Return the names of fields that are not null and have no effect."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value is not None)
