"""The bodies of the image endpoints: JSON for generations, a form with the same fields for edits.

Source: the OpenAI SDK's `types/image_generate_params.py` and `image_edit_params.py`, and mlx-openai-server's fields
`negative_prompt`, `steps`, `guidance_scale`, `seed`, `priority` and `async_mode`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mlx_host.api.ignored_fields import ignored_fields
from mlx_host.errors import InvalidRequestError

# JavaScript's numbers represent integers up to 2**53 exactly, and ten images use ten consecutive seeds.
MAX_SEED = 2**53 - 10

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


def _size(value: str) -> str:
    if value != "auto" and _SIZE.fullmatch(value) is None:
        raise ValueError(f"must be 'auto' or WIDTHxHEIGHT in pixels, such as '1024x1024', got {value[:40]!r}")
    return value


class ImageBody(BaseModel):
    """The fields of both endpoints. Null, or an empty field of a form, means the default.

    Other fields, such as `quality`, `background`, `style`, `moderation` and `user`, have no effect.
    """

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    prompt: Annotated[str, Field(min_length=1)]
    negative_prompt: str | None = None
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: Annotated[str, AfterValidator(_size)] | None = None
    steps: Annotated[int, Field(ge=1, le=50)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    priority: Literal["low", "normal", "high"] | None = None
    async_mode: bool | None = None

    def ignored(self) -> list[str]:
        """Return the paths of fields that are set and have no effect."""
        no_effect = ["output_compression"] if self.output_compression is not None and self.format == "png" else []
        return sorted([*no_effect, *ignored_fields(self)])

    def check(self) -> None:
        """Raise InvalidRequestError for fields that cannot be combined."""
        if self.stream and self.by_url:
            raise InvalidRequestError(
                "stream cannot be combined with response_format 'url'; use 'b64_json'.",
                param="stream",
            )
        if self.stream and self.async_mode:
            raise InvalidRequestError(
                "async_mode cannot be combined with stream; set only one of them.", param="async_mode"
            )
        if self.partial_images and not self.stream:
            raise InvalidRequestError("partial_images requires stream: true.", param="partial_images")

    @property
    def format(self) -> Literal["png", "jpeg", "webp"]:
        """The file format of the images."""
        return self.output_format or "png"

    @property
    def by_url(self) -> bool:
        """Whether the response has URLs instead of base64."""
        return self.response_format == "url"

    @property
    def width_and_height(self) -> tuple[int, int] | None:
        """The size in pixels; None means the model's default."""
        size = _SIZE.fullmatch(self.size or "")
        return (int(size[1]), int(size[2])) if size is not None else None


def edit_schema() -> dict[str, Any]:
    """Return the JSON schema of the form for image edits, which FastAPI cannot derive, for the OpenAPI document."""
    form = ImageBody.model_json_schema()
    file = {"type": "string", "format": "binary"}
    form["properties"] |= {"image": {"type": "array", "items": file}, "mask": file}
    return {**form, "required": ["image", "prompt"]}
