"""What is asked of the images endpoints, as JSON or as a form, and the request that it becomes.

Source: the OpenAI SDK's `types/image_generate_params.py` and `image_edit_params.py`, and mlx-openai-server's fields
`negative_prompt`, `steps`, `guidance_scale`, `seed`, `priority` and `async_mode`.
"""

from __future__ import annotations

import random
import re
import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mlx_host.api import errors, multipart
from mlx_host.errors import InvalidRequest
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest, Priority

# Numbers up to here come through JSON whole, whatever reads it; the seeds of ten pictures must.
HIGHEST_SEED = 2**53 - 10
EDIT_SEED = 42
MOST_IMAGES = 16

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


def _size(value: str) -> str:
    if value != "auto" and _SIZE.fullmatch(value) is None:
        raise ValueError(f"must be 'auto' or WIDTHxHEIGHT in pixels, such as '1024x1024', not {value[:40]!r}")
    return value


class ImageBody(BaseModel):
    """The fields of both endpoints; null, and in a form an empty field, means the default.

    Fields that are not listed, such as `quality`, `background`, `style`, `moderation` and `user`, change nothing here.
    """

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    prompt: Annotated[str, Field(min_length=1)]
    negative_prompt: str | None = None
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: Annotated[str, AfterValidator(_size)] | None = None
    steps: Annotated[int, Field(ge=1, le=50)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, le=HIGHEST_SEED)] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    priority: Literal["low", "normal", "high"] | None = None
    async_mode: bool | None = None

    def ignored(self) -> list[str]:
        """Name the fields that were given, not null, and change nothing here."""
        own = ["output_compression"] if self.output_compression is not None and self.format == "png" else []
        return sorted([*own, *(name for name, value in (self.model_extra or {}).items() if value is not None)])

    @property
    def format(self) -> Literal["png", "jpeg", "webp"]:
        return self.output_format or "png"

    @property
    def by_url(self) -> bool:
        return self.response_format == "url"


def check(body: ImageBody) -> None:
    """Refuse what does not go together."""
    if body.stream and body.by_url:
        raise InvalidRequest(
            "A stream holds the pictures themselves; response_format must be b64_json.", param="stream"
        )
    if body.stream and body.async_mode:
        raise InvalidRequest("A job is asked for, not streamed: either stream or async_mode.", param="async_mode")
    if body.partial_images and not body.stream:
        raise InvalidRequest("partial_images needs stream true.", param="partial_images")


def _fields(body: ImageBody, seed: int) -> dict[str, Any]:
    size = _SIZE.fullmatch(body.size or "")
    return {
        "id": f"img-{uuid.uuid4().hex}",
        "model": body.model or "",
        "priority": Priority[(body.priority or "normal").upper()],
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt,
        "n": body.n or 1,
        "size": (int(size[1]), int(size[2])) if size is not None else None,
        "steps": body.steps,
        "guidance": body.guidance_scale,
        "seed": body.seed if body.seed is not None else seed,
        "partials": body.partial_images or 0,
        "format": body.format,
        "compression": 100 if body.output_compression is None else body.output_compression,
    }


def generation(body: ImageBody) -> ImageGenerationRequest:
    """Translate a body; InvalidRequest names what cannot be honoured."""
    check(body)
    return ImageGenerationRequest(**_fields(body, random.randrange(2**32)))


def edit(form: multipart.MultipartForm) -> tuple[ImageBody, ImageEditRequest]:
    """Translate a form; InvalidRequest names what is wrong with it."""
    body = _read(form)
    check(body)
    images = form.files.get("image", [])
    if not 1 <= len(images) <= MOST_IMAGES:
        raise InvalidRequest(
            f"The form must bring 1 to {MOST_IMAGES} images in parts named image or image[]; it has {len(images)}.",
            param="image",
        )
    masks = form.files.get("mask", [])
    if len(masks) > 1:
        raise InvalidRequest(f"The form may bring one mask; it has {len(masks)}.", param="mask")
    request = ImageEditRequest(
        **_fields(body, EDIT_SEED),
        images=[image.content for image in images],
        mask=masks[0].content if masks else None,
    )
    return body, request


def _read(form: multipart.MultipartForm) -> ImageBody:
    for name in ("image", "mask"):
        if name in form.fields:
            raise InvalidRequest(
                f"{name} must be sent as a file, with a file name (curl: -F {name}=@NAME).", param=name
            )
    if "markup" in form.files:
        raise InvalidRequest("markup is not supported by this server; use the prompt, or a mask.", param="markup")
    values: dict[str, Any] = {name: values[-1] for name, values in form.fields.items() if values[-1]}
    values |= {name: "a file" for name in form.files if name not in ("image", "mask")}
    try:
        return ImageBody.model_validate(values)
    except ValidationError as error:
        raise errors.explain(error.errors()) from None


def edit_schema() -> dict[str, Any]:
    """Describe the form for the OpenAPI document; FastAPI sees no more than a request."""
    form = ImageBody.model_json_schema()
    file = {"type": "string", "format": "binary"}
    form["properties"] |= {"image": {"type": "array", "items": file}, "mask": file}
    return {**form, "required": ["image", "prompt"]}
