"""Bodies and multipart forms of the image endpoints are converted to requests; invalid ones are rejected."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host._apis.images.request import EDIT_SEED, edit_request, generation_request
from mlx_host._apis.images.schema import MAX_SEED, ImageBody, edit_schema
from mlx_host.api.http import MultipartForm, UploadedFile
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest, Priority
from pydantic import ValidationError


def generation(**fields: Any) -> ImageGenerationRequest:
    return generation_request(ImageBody(**{"prompt": "a cat", **fields}))


def edit(fields: dict[str, str], **files: list[bytes]) -> ImageEditRequest:
    uploads = {name: [UploadedFile("name", content) for content in contents] for name, contents in files.items()}
    form = MultipartForm({name: [value] for name, value in {"prompt": "a cat", **fields}.items()}, uploads)
    return edit_request(form)[1]


def test_null_means_the_default() -> None:
    names = set(ImageBody.model_fields) - {"prompt", "seed"}
    plain, nulls = generation(seed=1), generation(seed=1, **dict.fromkeys(names))
    for name in (
        "n",
        "size",
        "steps",
        "guidance",
        "priority",
        "format",
        "output_compression",
        "partial_images",
        "model",
    ):
        assert getattr(plain, name) == getattr(nulls, name)
    assert (plain.n, plain.size, plain.steps, plain.guidance) == (1, None, None, None)
    assert (plain.priority, plain.format, plain.output_compression) == (Priority.NORMAL, "png", 100)


def test_every_field_is_translated() -> None:
    made = generation(
        model="m",
        negative_prompt="dogs",
        n=2,
        size="512x256",
        steps=9,
        guidance_scale=2.5,
        seed=MAX_SEED,
        stream=True,
        partial_images=2,
        priority="high",
        output_format="webp",
        output_compression=7,
    )
    assert (made.model, made.prompt, made.negative_prompt, made.n) == ("m", "a cat", "dogs", 2)
    assert (made.size, made.steps, made.guidance, made.seed) == ((512, 256), 9, 2.5, MAX_SEED)
    assert (made.partial_images, made.priority, made.format, made.output_compression) == (2, Priority.HIGH, "webp", 7)


def test_the_default_seed_is_random_for_generations_and_fixed_for_edits() -> None:
    assert len({generation().seed for _ in range(10)}) > 1
    assert edit({}, image=[b"1"]).seed == EDIT_SEED == 42


@pytest.mark.parametrize("size", ["auto", None])
def test_the_model_can_choose_the_size(size: str | None) -> None:
    assert generation(size=size).size is None


@pytest.mark.parametrize("size", ["", "1024", "1024x", "x1024", "0x64", "064x64", "64X64", "-1x64", "64x64x3"])
def test_a_size_is_width_and_height(size: str) -> None:
    with pytest.raises(ValidationError, match=r"\nsize\n"):
        generation(size=size)


def test_form_fields_are_parsed_like_json_fields() -> None:
    fields = {"n": "2", "stream": "true", "partial_images": "1", "steps": "3", "guidance_scale": "2.5", "size": "64x64"}
    made = edit({**fields, "negative_prompt": ""}, image=[b"1", b"2"], mask=[b"3"])
    assert (made.n, made.partial_images, made.steps, made.guidance, made.size) == (2, 1, 3, 2.5, (64, 64))
    assert made.negative_prompt is None
    assert (list(made.images), made.mask) == ([b"1", b"2"], b"3")


@pytest.mark.parametrize(
    ("fields", "files", "param"),
    [
        ({}, {}, "image"),
        ({"image": "text"}, {}, "image"),
        ({"mask": "text"}, {"image": [b"1"]}, "mask"),
        ({}, {"image": [b"1"] * 17}, "image"),
        ({}, {"image": [b"1"], "mask": [b"1", b"2"]}, "mask"),
        ({}, {"image": [b"1"], "markup": [b"2"]}, "markup"),
        ({"n": "two"}, {"image": [b"1"]}, "n"),
        ({"prompt": ""}, {"image": [b"1"]}, "prompt"),
    ],
)
def test_an_invalid_form_is_rejected(fields: dict[str, str], files: dict[str, list[bytes]], param: str) -> None:
    with pytest.raises(InvalidRequestError) as rejection:
        edit(fields, **files)
    assert rejection.value.param == param


def test_fields_without_effect_are_listed() -> None:
    no_effect = {"quality": "hd", "style": None, "user": "me"}
    assert ImageBody(prompt="p", **no_effect).ignored() == ["quality", "user"]
    assert ImageBody(prompt="p", output_compression=5).ignored() == ["output_compression"]
    assert ImageBody(prompt="p", output_compression=5, output_format="jpeg").ignored() == []


def test_the_form_is_described_for_openapi() -> None:
    described = edit_schema()
    assert described["required"] == ["image", "prompt"]
    assert {"image", "mask", "prompt", "negative_prompt", "seed", "size"} <= set(described["properties"])
