"""Translates the bodies of the image endpoints into requests."""

from __future__ import annotations

import random
import uuid
from typing import Any

from pydantic import ValidationError

from mlx_host._apis.images.schema import ImageBody
from mlx_host.api.http import MultipartForm, validation_error
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest, Priority

EDIT_SEED = 42
MAX_INPUT_IMAGES = 16


def generation_request(body: ImageBody) -> ImageGenerationRequest:
    """Translate the body of a generation; InvalidRequestError names an invalid field."""
    body.check()
    return ImageGenerationRequest(**_shared_fields(body, default_seed=random.randrange(2**32)))


def edit_request(form: MultipartForm) -> tuple[ImageBody, ImageEditRequest]:
    """Translate the form of an edit; InvalidRequestError names an invalid field or file."""
    body = _body(form)
    body.check()
    images = form.files.get("image", [])
    if not 1 <= len(images) <= MAX_INPUT_IMAGES:
        raise InvalidRequestError(
            f"The form must have 1 to {MAX_INPUT_IMAGES} files named image or image[], got {len(images)}.",
            param="image",
        )
    masks = form.files.get("mask", [])
    if len(masks) > 1:
        raise InvalidRequestError(f"The form must have at most one file named mask, got {len(masks)}.", param="mask")
    request = ImageEditRequest(
        **_shared_fields(body, default_seed=EDIT_SEED),
        images=[image.content for image in images],
        mask=masks[0].content if masks else None,
    )
    return body, request


def _shared_fields(body: ImageBody, default_seed: int) -> dict[str, Any]:
    return {
        "id": f"img-{uuid.uuid4().hex}",
        "model": body.model or "",
        "priority": Priority[(body.priority or "normal").upper()],
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt,
        "n": body.n or 1,
        "size": body.width_and_height,
        "steps": body.steps,
        "guidance": body.guidance_scale,
        "seed": body.seed if body.seed is not None else default_seed,
        "partial_images": body.partial_images or 0,
        "format": body.format,
        "output_compression": 100 if body.output_compression is None else body.output_compression,
    }


def _body(form: MultipartForm) -> ImageBody:
    for name in ("image", "mask"):
        if name in form.fields:
            raise InvalidRequestError(
                f"{name} must be sent as a file (curl: -F {name}=@FILE), not as text.", param=name
            )
    if "markup" in form.files:
        raise InvalidRequestError("markup is not supported by this server; use the prompt or a mask.", param="markup")
    values: dict[str, Any] = {name: texts[-1] for name, texts in form.fields.items() if texts[-1]}
    # A file instead of a text field fails validation; any other file is listed as ignored.
    values |= {name: "a file" for name in form.files if name not in ("image", "mask")}
    try:
        return ImageBody.model_validate(values)
    except ValidationError as error:
        raise validation_error(error.errors()) from None
