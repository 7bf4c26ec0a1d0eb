"""Requests are validated against the model and converted to arguments of mflux."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest, ImageRequest
from mlx_host_flux.options import FluxOptions
from mlx_host_flux.request_plan import RequestPlan, RequestPlanner, input_files, partial_steps
from PIL import Image

from tests.plugins.flux.test_image_io import noise
from tests.support.media import encoded, finish


def planner(name: str, **options: Any) -> RequestPlanner:
    flux_options = FluxOptions(config_name=name, **options)
    config, task = flux_options.choice
    pipeline = config.pipeline(task)
    assert pipeline is not None
    return RequestPlanner(config, pipeline, flux_options)


def image_request(request_type: type[ImageRequest] = ImageGenerationRequest, **fields: Any) -> Any:
    return request_type(**{"id": "r", "model": "m", "prompt": "a cat", "seed": 1, **fields})


def edit_request(*images: bytes, **fields: Any) -> Any:
    return image_request(ImageEditRequest, images=images or (encoded(noise(48, 32)),), **fields)


def plan(name: str, **fields: Any) -> RequestPlan:
    return plan_with(planner(name), image_request(**fields))


def plan_with(planner: RequestPlanner, request: ImageRequest) -> RequestPlan:
    try:
        return finish(planner.plan(request))
    finally:
        planner.close()


def size_of(file: str) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def rejection(name: str, request: ImageRequest, **options: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as error:
        plan_with(planner(name, **options), request)
    return error.value


def contains(error: InvalidRequestError, *values: str) -> bool:
    return all(value in str(error) for value in values)


@pytest.mark.parametrize(
    ("name", "steps", "guidance"),
    [
        ("flux-schnell", 4, None),
        ("flux-dev", 25, 3.5),
        ("flux-krea-dev", 28, 4.5),
        ("qwen-image", 50, 4.0),
        ("z-image-turbo", 9, None),
        ("fibo", 50, 5.0),
    ],
)
def test_the_defaults_of_the_model_are_used(name: str, steps: int, guidance: float | None) -> None:
    result = plan(name)
    assert (result.steps, result.size) == (steps, (1024, 1024))
    assert result.arguments["num_inference_steps"] == steps
    assert result.arguments.get("guidance") == guidance


def test_parameters_of_the_request_are_used() -> None:
    result = plan("qwen-image", steps=7, guidance=2.5, negative_prompt="a dog", size=(512, 768))
    assert result.arguments == {"num_inference_steps": 7, "guidance": 2.5, "negative_prompt": "a dog"}
    assert (result.size, result.steps) == ((512, 768), 7)


@pytest.mark.parametrize("guidance", [0, 1])
def test_a_neutral_guidance_scale_is_accepted_by_a_model_without_guidance(guidance: float) -> None:
    assert plan("flux-schnell", guidance=guidance).arguments == {"num_inference_steps": 4}


def test_an_empty_negative_prompt_is_omitted() -> None:
    assert "negative_prompt" not in plan("flux-dev", negative_prompt="").arguments


@pytest.mark.parametrize(
    ("name", "fields", "param", "values"),
    [
        ("flux-schnell", {"guidance": 3.5}, "guidance_scale", ["flux-schnell", "3.5"]),
        ("flux-dev", {"negative_prompt": "x"}, "negative_prompt", ["flux-dev"]),
        ("z-image-turbo", {"negative_prompt": "x"}, "negative_prompt", ["z-image-turbo"]),
        ("z-image", {"negative_prompt": "x"}, "negative_prompt", ["guidance_scale", "above 1", "got 0"]),
        ("qwen-image-2.1", {"guidance": 4.0}, "negative_prompt", ["requires a negative_prompt", "got 4"]),
        ("qwen-image-2.1", {"guidance": 0.5}, "guidance_scale", ["at least 1", "not 0.5"]),
        ("qwen-image-2.1", {"size": (1040, 1024)}, "size", ["1040x1024", "multiples of 32", "1024x1024"]),
        ("qwen-image-2.1", {"steps": 1}, "steps", ["at least 2", "not 1"]),
        ("iris-3b", {"steps": 5}, "steps", ["must be 4", "not 5"]),
        ("ideogram-4", {"size": (128, 512)}, "size", ["128x512", "256 to 2048"]),
        ("flux-dev", {"size": (1000, 1000)}, "size", ["multiples of 16", "992x992"]),
        ("flux-dev", {"size": (8, 8)}, "size", ["multiples of 16", "16x16"]),
        ("flux-dev", {"size": (16, 16384)}, "size", ["16x16384", "16 to 4096"]),
        ("flux-dev", {"size": (2048, 2064)}, "size", ["2048x2064", "4,227,072", "4,194,304"]),
        ("flux-dev", {"prompt": "x" * 1001}, "prompt", ["1001", "1000"]),
        ("qwen-image", {"negative_prompt": "x" * 1001}, "negative_prompt", ["1001", "1000"]),
    ],
)
def test_unsupported_parameters_are_rejected(name: str, fields: dict[str, Any], param: str, values: list[str]) -> None:
    error = rejection(name, image_request(**fields))
    assert (error.param, contains(error, *values)) == (param, True), error


def test_limits_are_configurable() -> None:
    assert plan_with(planner("flux-dev", max_prompt_chars=2000), image_request(prompt="x" * 2000)).steps == 25
    assert contains(rejection("flux-dev", image_request(size=(512, 512)), max_pixels=500 * 500), "(--max-pixels)")
    assert plan_with(planner("flux-dev", max_pixels=500 * 500), image_request()).size == (496, 496)


def test_a_model_with_a_schedule_uses_it_unless_steps_or_guidance_are_set() -> None:
    assert plan("ideogram-4").arguments == {"num_inference_steps": None}
    assert plan("ideogram-4", guidance=5.0).arguments == {"num_inference_steps": 20, "guidance": 5.0}
    assert plan("ideogram-4", steps=9).arguments == {"num_inference_steps": 9, "guidance": 7.0}


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [(4, 0, set()), (4, 1, {2}), (4, 3, {1, 2, 3}), (50, 3, {12, 25, 38}), (1, 3, set()), (2, 3, {1})],
)
def test_partial_images_are_spread_over_the_steps(steps: int, count: int, expected: set[int]) -> None:
    assert partial_steps(steps, count) == expected


# Edits


def test_the_size_of_an_edit_defaults_to_that_of_its_image() -> None:
    assert plan_with(planner("flux-kontext-dev"), edit_request(encoded(noise(50, 37)))).size == (48, 32)
    assert plan_with(planner("flux-kontext-dev"), edit_request(encoded(noise(50, 37)), size=(64, 64))).size == (64, 64)
    assert plan_with(planner("flux-kontext-dev"), edit_request(encoded(Image.new("L", (3000, 1500))))).size == (
        1440,
        720,
    )


@pytest.mark.parametrize(
    ("name", "request_", "param", "values"),
    [
        ("flux-kontext-dev", edit_request(*[encoded(noise())] * 2), "image", ["at most 1 image;", "has 2"]),
        ("fibo2-edit", edit_request(*[encoded(noise())] * 6), "image", ["at most 5 images", "has 6"]),
        ("flux-kontext-dev", edit_request(mask=encoded(noise())), "mask", ["flux-kontext-dev does not support mask"]),
        ("flux-fill-dev", edit_request(), "mask", ["flux-fill-dev requires a mask"]),
        ("fibo2-edit", edit_request(*[encoded(noise())] * 2, mask=encoded(noise())), "mask", ["one image", "has 2"]),
        ("flux-fill-dev", edit_request(mask=encoded(noise(16, 16))), "mask", ["16x16", "48x32"]),
        ("flux2-klein-edit", edit_request(encoded(noise(48, 15))), "image", ["48x15"]),
        ("flux2-klein-edit", edit_request(encoded(noise(16 * 64 + 1, 16))), "image", ["1025x16"]),
        ("flux-kontext-dev", edit_request(b"garbage"), "image", ["not an image"]),
    ],
)
def test_unsupported_input_images_are_rejected(
    name: str, request_: ImageRequest, param: str, values: list[str]
) -> None:
    error = rejection(name, request_)
    assert (error.param, contains(error, *values)) == (param, True), error


def test_images_are_written_to_temporary_files() -> None:
    fill = planner("flux-fill-dev")
    with input_files(plan_with(fill, edit_request(mask=encoded(noise(48, 32)))), fill.pipeline.inputs) as arguments:
        assert set(arguments) == {"image_path", "masked_image_path"}
        assert size_of(arguments["image_path"]) == size_of(arguments["masked_image_path"]) == (48, 32)
    assert not Path(arguments["image_path"]).parent.exists()


def test_several_images_are_passed_as_a_list_of_files() -> None:
    klein = planner("flux2-klein-edit")
    with input_files(
        plan_with(klein, edit_request(encoded(noise(32, 32)), encoded(noise(64, 16)))), klein.pipeline.inputs
    ) as arguments:
        (paths,) = arguments.values()
        assert [size_of(path) for path in paths] == [(32, 32), (64, 16)]


def test_a_large_image_is_scaled_down() -> None:
    kontext = planner("flux-kontext-dev", max_pixels=64 * 64)
    (image,) = plan_with(kontext, edit_request(encoded(noise(128, 128)))).images
    assert image.size == (64, 64)
