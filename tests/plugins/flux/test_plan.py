"""What may be asked of which model, and what is passed to mflux for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest, ImageRequest
from mlx_host_flux.options import FluxOptions
from mlx_host_flux.plan import Plan, Planner, files, show_at
from PIL import Image

from tests.plugins.flux.test_image_io import noise
from tests.support.media import encoded, finish


def planner(name: str, **options: Any) -> Planner:
    made = FluxOptions(config_name=name, **options)
    config, task = made.choice
    pipeline = config.pipeline(task)
    assert pipeline is not None
    return Planner(config, pipeline, made)


def request(kind: type[ImageRequest] = ImageGenerationRequest, **more: Any) -> Any:
    return kind(**{"id": "r", "model": "m", "prompt": "a cat", "seed": 1, **more})


def edit(*images: bytes, **more: Any) -> Any:
    return request(ImageEditRequest, images=images or (encoded(noise(48, 32)),), **more)


def plan(name: str, **more: Any) -> Plan:
    return plan_with(planner(name), request(**more))


def plan_with(planner: Planner, asked: ImageRequest) -> Plan:
    try:
        return finish(planner.plan(asked))
    finally:
        planner.close()


def size_of(file: str) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def refusal(name: str, asked: ImageRequest, **options: Any) -> str:
    with pytest.raises(InvalidRequestError) as error:
        plan_with(planner(name, **options), asked)
    assert error.value.param is not None
    return f"{error.value.param}: {error.value}"


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
def test_defaults_are_passed(name: str, steps: int, guidance: float | None) -> None:
    made = plan(name)
    assert (made.steps, made.size) == (steps, (1024, 1024))
    assert made.arguments["num_inference_steps"] == steps
    assert made.arguments.get("guidance") == guidance


def test_what_is_asked_for_is_passed() -> None:
    made = plan("qwen-image", steps=7, guidance=2.5, negative_prompt="a dog", size=(512, 768))
    assert made.arguments == {"num_inference_steps": 7, "guidance": 2.5, "negative_prompt": "a dog"}
    assert (made.size, made.steps) == ((512, 768), 7)


@pytest.mark.parametrize("guidance", [0, 1])
def test_no_guidance_may_be_said_in_numbers(guidance: float) -> None:
    assert plan("flux-schnell", guidance=guidance).arguments == {"num_inference_steps": 4}


def test_an_empty_negative_prompt_is_none() -> None:
    assert "negative_prompt" not in plan("flux-dev", negative_prompt="").arguments


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("flux-schnell", {"guidance": 3.5}, "guidance_scale: flux-schnell works without guidance"),
        ("flux-dev", {"negative_prompt": "x"}, "negative_prompt: flux-dev takes no negative_prompt"),
        ("z-image-turbo", {"negative_prompt": "x"}, "negative_prompt: z-image-turbo takes no negative_prompt"),
        ("z-image", {"negative_prompt": "x"}, "only with a guidance_scale above 1; it is 0"),
        ("qwen-image-2.1", {"guidance": 4.0}, "negative_prompt: qwen-image-2.1 is guided away from a negative prompt"),
        (
            "qwen-image-2.1",
            {"guidance": 0.5},
            "guidance_scale: qwen-image-2.1 takes a guidance_scale of 1, which is none",
        ),
        ("qwen-image-2.1", {"size": (1040, 1024)}, "size: qwen-image-2.1 makes images whose sides are multiples"),
        ("qwen-image-2.1", {"steps": 1}, "steps: qwen-image-2.1 takes 2 steps or more"),
        ("iris-3b", {"steps": 5}, "steps: iris-3b always takes 4 steps, not 5"),
        ("ideogram-4", {"size": (128, 512)}, "size: the sides of an image of ideogram-4 have 256 to 2048 pixels"),
        ("flux-dev", {"size": (1000, 1000)}, "multiples of 16, such as 992x992"),
        ("flux-dev", {"size": (8, 8)}, "multiples of 16, such as 16x16"),
        ("flux-dev", {"size": (16, 16384)}, "have 16 to 4096 pixels"),
        ("flux-dev", {"size": (2048, 2064)}, r"size: 2048x2064 are 4,227,072 pixels; 4,194,304 are the most"),
        ("flux-dev", {"prompt": "x" * 1001}, "prompt: prompt has 1001 characters; this model takes 1000"),
        ("qwen-image", {"negative_prompt": "x" * 1001}, "negative_prompt: negative_prompt has 1001 characters"),
    ],
)
def test_what_a_model_does_not_do_is_refused(name: str, more: dict[str, Any], said: str) -> None:
    assert said in refusal(name, request(**more))


def test_limits_are_options() -> None:
    assert plan_with(planner("flux-dev", max_prompt_chars=2000), request(prompt="x" * 2000)).steps == 25
    assert "(--max-pixels)" in refusal("flux-dev", request(size=(512, 512)), max_pixels=500 * 500)
    assert plan_with(planner("flux-dev", max_pixels=500 * 500), request()).size == (496, 496)


def test_a_schedule_of_its_own_is_left_alone() -> None:
    assert plan("ideogram-4").arguments == {"num_inference_steps": None}
    assert plan("ideogram-4", guidance=5.0).arguments == {"num_inference_steps": 20, "guidance": 5.0}
    assert plan("ideogram-4", steps=9).arguments == {"num_inference_steps": 9, "guidance": 7.0}


@pytest.mark.parametrize(
    ("steps", "partials", "shown"),
    [(4, 0, set()), (4, 1, {2}), (4, 3, {1, 2, 3}), (50, 3, {12, 25, 38}), (1, 3, set()), (2, 3, {1})],
)
def test_partial_images_are_spread_over_the_steps(steps: int, partials: int, shown: set[int]) -> None:
    assert show_at(steps, partials) == shown


# Edits


def test_an_edit_is_of_the_size_of_its_image() -> None:
    assert plan_with(planner("flux-kontext-dev"), edit(encoded(noise(50, 37)))).size == (48, 32)
    assert plan_with(planner("flux-kontext-dev"), edit(encoded(noise(50, 37)), size=(64, 64))).size == (64, 64)
    assert plan_with(planner("flux-kontext-dev"), edit(encoded(Image.new("L", (3000, 1500))))).size == (1440, 720)


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("flux-kontext-dev", edit(*[encoded(noise())] * 2), "image: flux-kontext-dev takes one image; the request has"),
        ("fibo2-edit", edit(*[encoded(noise())] * 6), "image: fibo2 takes 5 images at most; the request has 6"),
        ("flux-kontext-dev", edit(mask=encoded(noise())), "mask: flux-kontext-dev takes no mask"),
        ("flux-fill-dev", edit(), "mask: flux-fill-dev fills in what a mask leaves out"),
        ("fibo2-edit", edit(*[encoded(noise())] * 2, mask=encoded(noise())), "mask: A mask goes with one image"),
        ("flux-fill-dev", edit(mask=encoded(noise(16, 16))), "mask: mask: the mask has 16x16 pixels, the image 48x32"),
        ("flux2-klein-edit", edit(encoded(noise(48, 15))), "image: image: 48x15 pixels are too few or too elongated"),
        ("flux2-klein-edit", edit(encoded(noise(16 * 64 + 1, 16))), "image: image: 1025x16 pixels are too few or too"),
        ("flux-kontext-dev", edit(b"garbage"), "image: image: the file is not an image"),
    ],
)
def test_images_that_a_model_does_not_take_are_refused(name: str, asked: ImageRequest, said: str) -> None:
    assert said in refusal(name, asked)


def test_images_become_files_for_the_time_being() -> None:
    fill = planner("flux-fill-dev")
    with files(plan_with(fill, edit(mask=encoded(noise(48, 32)))), fill.pipeline.inputs) as given:
        assert set(given) == {"image_path", "masked_image_path"}
        assert size_of(given["image_path"]) == size_of(given["masked_image_path"]) == (48, 32)
    assert not Path(given["image_path"]).parent.exists()


def test_several_images_become_a_list_of_files() -> None:
    klein = planner("flux2-klein-edit")
    with files(plan_with(klein, edit(encoded(noise(32, 32)), encoded(noise(64, 16)))), klein.pipeline.inputs) as given:
        (paths,) = given.values()
        assert [size_of(path) for path in paths] == [(32, 32), (64, 16)]


def test_a_large_image_is_made_smaller() -> None:
    kontext = planner("flux-kontext-dev", max_pixels=64 * 64)
    (image,) = plan_with(kontext, edit(encoded(noise(128, 128)))).images
    assert image.size == (64, 64)
