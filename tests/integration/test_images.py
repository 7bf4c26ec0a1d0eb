"""Image generation and editing on the real server with OpenAI's client; the model is a random FLUX.2 klein."""

from __future__ import annotations

import base64
import io
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest
from PIL import Image

from tests.plugins.flux.test_image_io import noise
from tests.support.client import children, error_of, eventually, get, post, queue, sdk, wait_for_queue
from tests.support.media import encoded
from tests.support.server import BLAS, ServerProcess, running_server
from tests.support.tiny_flux import write_tiny_flux, write_tiny_lora

GENERATIONS, EDITS, JOBS = "/v1/images/generations", "/v1/images/edits", "/v1/images/jobs"
# As few pixels and steps as possible, with enough images and steps that a request is still running when a test checks.
SMALL: dict[str, Any] = {"prompt": "a cat", "size": "16x16", "steps": 1}
LONG: dict[str, Any] = {**SMALL, "steps": 50, "n": 10}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The same weights three times: for generation, for generation with a LoRA, and for editing."""
    folder = tmp_path_factory.mktemp("images")
    model = write_tiny_flux(folder / "flux")
    lora = write_tiny_lora(folder / "lora.safetensors")
    shared = {"backend": "flux", "model": str(model), "config_name": "flux2-klein-4b", "quantize": 16}
    models: list[dict[str, Any]] = [
        {**shared, "served_model_name": "make"},
        {**shared, "served_model_name": "lora", "lora_paths": [str(lora)], "lora_scales": [4.0]},
        {**shared, "served_model_name": "edit", "task": "image-edit", "max_image_mb": 0.1},
    ]
    # On a CPU, MLX compiles with the system's C++ compiler, which takes longer than it saves here.
    env = {"MLX_DISABLE_COMPILE": "1", **BLAS}
    variables = "".join(f"env.{name} = {json.dumps(value)}\n" for name, value in env.items())
    config = folder / "mlx-host.toml"
    tables = ["".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()) for table in models]
    config.write_text("".join(f"[[models]]\n{table}{variables}" for table in tables))
    with pytest.MonkeyPatch.context() as patch:
        # mlx-lm sets it on import, and other tests in this process import mlx-lm.
        patch.delenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", raising=False)
        with running_server("--config", str(config)) as running:
            yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with sdk(server) as client:
        yield client


def make(client: openai.OpenAI, model: str = "make", **more: Any) -> Any:
    """Generate images with the SDK; fields that it does not know are passed unchanged."""
    known = {"n", "size", "quality", "response_format", "output_format", "output_compression", "stream"}
    given = {**SMALL, **more}
    own = {key: given.pop(key) for key in list(given) if key not in known | {"prompt", "partial_images", "background"}}
    return client.images.generate(model=model, **given, extra_body=own)


def edit(client: openai.OpenAI, image: Any, **more: Any) -> Any:
    own = {key: more.pop(key) for key in list(more) if key in ("steps", "seed", "guidance_scale", "negative_prompt")}
    return client.images.edit(model="edit", image=image, prompt="a dog", extra_body={"steps": 1, **own}, **more)


def content(image: Any) -> bytes:
    return base64.b64decode(image.b64_json)


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


# Generation


def test_images_have_the_requested_size_and_format(client: openai.OpenAI) -> None:
    response = make(client, size="32x16", seed=1)
    assert (response.size, response.output_format, response.background) == ("32x16", "png", "opaque")
    image = opened(content(response.data[0]))
    assert (image.size, image.format, image.mode) == ((32, 16), "PNG", "RGB")
    assert response.usage.output_tokens == 2
    assert response.usage.input_tokens == response.usage.input_tokens_details.text_tokens == 2


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_other_formats(client: openai.OpenAI, format: str) -> None:
    response = make(client, output_format=format, output_compression=50)
    assert opened(content(response.data[0])).format == format.upper()
    assert response.output_format == format


def test_the_same_seed_gives_the_same_image(client: openai.OpenAI) -> None:
    first, second = make(client, seed=7, n=2).data
    assert (first.seed, second.seed) == (7, 8)
    assert content(first) != content(second)
    (again,) = make(client, seed=8).data
    assert content(again) == content(second)


def test_a_random_seed_is_reported(client: openai.OpenAI) -> None:
    (image,) = make(client).data
    (again,) = make(client, seed=image.seed).data
    assert content(again) == content(image)
    assert make(client).data[0].seed != image.seed


def test_the_prompt_and_the_steps_have_an_effect(client: openai.OpenAI) -> None:
    images = [make(client, seed=1, **more).data[0] for more in ({}, {"prompt": "a dog"}, {"steps": 2})]
    assert len({content(image) for image in images}) == 3


def test_a_lora_changes_the_image(client: openai.OpenAI) -> None:
    plain, changed = (make(client, model, seed=1).data[0] for model in ("make", "lora"))
    assert content(plain) != content(changed)


def test_an_image_can_be_fetched(client: openai.OpenAI, server: ServerProcess) -> None:
    (image,) = make(client, seed=1, response_format="url").data
    assert image.url.startswith(f"{server.url}/v1/images/files/")
    fetched = httpx2.get(image.url)
    assert fetched.headers["content-type"] == "image/png"
    assert fetched.content == content(make(client, seed=1).data[0])
    assert error_of(get(server, "/v1/images/files/nothing.png"), 404)["code"] == "file_not_found"


def test_fields_without_effect_are_listed(server: ServerProcess) -> None:
    no_effect = {"quality": "high", "background": "auto", "style": "vivid", "moderation": "low", "user": "me"}
    response = post(server, {"model": "make", **SMALL, **no_effect, "n": None, "output_compression": 5}, GENERATIONS)
    assert response.status_code == 200
    listed = response.headers["x-mlx-host-ignored"].split(", ")
    assert set(listed) == {*no_effect, "output_compression"}


# Streams


def test_a_stream_has_partial_images(client: openai.OpenAI) -> None:
    events = list(make(client, seed=3, steps=4, n=2, stream=True, partial_images=2))
    kinds = ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.type for event in events] == kinds * 2
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert [event.image_index for event in events] == [0, 0, 0, 1, 1, 1]
    assert len({content(event) for event in events}) == 6
    assert {(event.size, event.quality, event.background, event.output_format) for event in events} == {
        ("16x16", "auto", "opaque", "png")
    }
    whole = make(client, seed=3, steps=4, n=2).data
    assert [content(event) for event in (events[2], events[5])] == [content(image) for image in whole]
    assert (events[2].usage.output_tokens, events[5].seed) == (1, 4)


def test_a_stream_without_partial_images(client: openai.OpenAI) -> None:
    (event,) = make(client, stream=True)
    assert event.type == "image_generation.completed"


def test_disconnecting_from_a_stream_frees_the_slot_within_a_step(client: openai.OpenAI, server: ServerProcess) -> None:
    with make(client, **LONG, stream=True, partial_images=3, seed=1) as stream:
        assert next(iter(stream)).type == "image_generation.partial_image"
    assert len(make(client).data) == 1
    wait_for_queue(server, 0)
    lines = eventually(lambda: [line for line in server.lines if "outcome=cancelled" in line])
    cancelled = re.findall(r"img-\w+", lines[-1])[0]
    # The progress lines of image 1 show that the pattern is right.
    assert any(f"{cancelled}: image 1 of" in line for line in server.lines)
    assert not any(f"{cancelled}: image 2 of" in line for line in server.lines)


# Jobs


def start_job(server: ServerProcess, model: str = "make", **more: Any) -> str:
    """Start a job and return its path."""
    response = post(server, {"model": model, **SMALL, "async_mode": True, **more}, GENERATIONS)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"{JOBS}/{response.json()['id']}"
    return response.headers["location"]


def test_a_job_reports_its_progress_and_returns_its_images(client: openai.OpenAI, server: ServerProcess) -> None:
    path = start_job(server, seed=5, n=2)
    job = eventually(lambda: (now := get(server, path).json())["status"] == "completed" and now)
    assert (job["model"], job["seed"], job["n"], job["completed"]) == ("make", 5, 2, 2)
    assert (job["step"], job["steps"], job["error"]) == (1, 1, None)
    assert job["expires_at"] > job["created_at"]
    waited = make(client, seed=5, n=2)
    assert [each["b64_json"] for each in job["result"]["data"]] == [image.b64_json for image in waited.data]
    assert [each["seed"] for each in job["result"]["data"]] == [5, 6]
    assert httpx2.delete(f"{server.url}{path}").json()["status"] == "completed"
    assert error_of(get(server, path), 404)["code"] == "job_not_found"


def test_a_job_returns_urls(server: ServerProcess) -> None:
    path = start_job(server, response_format="url")
    job = eventually(lambda: (now := get(server, path).json())["status"] == "completed" and now)
    url = job["result"]["data"][0]["url"]
    assert opened(httpx2.get(url).content).size == (16, 16)
    httpx2.delete(f"{server.url}{path}")
    assert httpx2.get(url).status_code == 404


def test_a_deleted_job_stops_within_a_step(client: openai.OpenAI, server: ServerProcess) -> None:
    path = start_job(server, **LONG)
    eventually(lambda: get(server, path).json()["step"])
    assert httpx2.delete(f"{server.url}{path}").json()["status"] == "cancelled"
    assert len(make(client).data) == 1
    job = get(server, path).json()
    assert (job["status"], job["result"]) == ("cancelled", None)
    assert job["completed"] < 10
    wait_for_queue(server, 0)


def test_a_rejected_job_has_the_error(server: ServerProcess) -> None:
    path = start_job(server, size="17x16")
    job = eventually(lambda: (now := get(server, path).json())["status"] == "failed" and now)
    assert job["error"]["param"] == "size"
    assert "multiples of 16" in job["error"]["message"]


def test_the_queue_is_ordered_by_priority(server: ServerProcess) -> None:
    long = start_job(server, **LONG)
    wait_for_queue(server, 1)
    # In the log, the requests differ in the number of images.
    low = start_job(server, n=2, seed=1, priority="low")
    high = start_job(server, n=3, seed=1, priority="high")
    assert queue(server) == (1, 2)
    httpx2.delete(f"{server.url}{long}")
    for path in (low, high):
        eventually(lambda path=path: get(server, path).json()["status"] == "completed")  # type: ignore[misc]  # a lambda's default
    wanted = re.compile(r'task="image generation" outcome=stop .*completion_tokens=([23]) ')

    def order() -> list[str]:
        return [match[1] for match in map(wanted.search, server.lines) if match]

    eventually(lambda: "3" in order() and order()[-1] == "2")


# Edits


def test_an_edit_uses_the_image_and_its_size(client: openai.OpenAI) -> None:
    image = encoded(noise(40, 24))
    response = edit(client, image)
    assert opened(content(response.data[0])).size == (32, 16)
    assert response.data[0].seed == 42
    assert response.usage.input_tokens_details.image_tokens == 2
    assert content(edit(client, image).data[0]) == content(response.data[0])
    assert content(edit(client, encoded(Image.new("RGB", (40, 24)))).data[0]) != content(response.data[0])
    assert content(edit(client, image, seed=1).data[0]) != content(response.data[0])


def test_an_edit_accepts_several_images(client: openai.OpenAI) -> None:
    images = [encoded(noise(16, 16)), encoded(Image.new("RGB", (16, 16)), "JPEG"), encoded(noise(16, 16), "WEBP")]
    both = edit(client, images[:2], size="16x16")
    assert opened(content(both.data[0])).size == (16, 16)
    assert content(both.data[0]) != content(edit(client, images[0], size="16x16").data[0])
    assert edit(client, images, size="16x16").usage.input_tokens_details.image_tokens == 3


def test_an_edit_sees_an_image_as_it_is_displayed(client: openai.OpenAI) -> None:
    transparent = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    white = content(edit(client, encoded(Image.new("RGB", (16, 16), "white"))).data[0])
    for format in ("PNG", "WEBP", "GIF", "TIFF"):
        assert content(edit(client, encoded(transparent, format)).data[0]) == white
    assert content(edit(client, encoded(Image.new("RGB", (16, 16), "red"), "BMP")).data[0]) != white


def test_an_edit_is_streamed(client: openai.OpenAI) -> None:
    events = list(edit(client, encoded(noise(16, 16)), steps=2, stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


def upload(server: ServerProcess, files: list[tuple[str, Any]], **fields: Any) -> httpx2.Response:
    data = {"model": "edit", "prompt": "a dog", "steps": "1", **fields}
    return httpx2.post(f"{server.url}{EDITS}", data=data, files=files, timeout=60)


def test_both_names_of_the_images_are_accepted(server: ServerProcess) -> None:
    image = ("a.png", encoded(noise(16, 16)))
    response = upload(server, [("image", image), ("image[]", image)], size="16x16")
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["input_tokens_details"]["image_tokens"] == 2


def test_invalid_images_are_rejected_and_leave_nothing_behind(client: openai.OpenAI, server: ServerProcess) -> None:
    before = {child.pid for child in children(server)}
    temporary = Path(tempfile.gettempdir())
    whole = encoded(noise(16, 16))
    for file in (b"", b"garbage", whole[:40], whole[:-30], encoded(noise(), "PPM")):
        assert error_of(upload(server, [("image", ("a", file))]), 400)["code"] == "invalid_image"
    assert error_of(upload(server, [("image", ("a", b"x" * 100_001))]), 413)["code"] == "too_large"
    assert error_of(upload(server, [("image", ("a", encoded(noise(1, 1))))]), 400)["param"] == "image"
    assert len(edit(client, whole).data) == 1
    assert {child.pid for child in children(server)} == before
    assert all(psutil.pid_exists(pid) for pid in before)
    assert not [left for pid in before for left in temporary.glob(f"mlx-host-flux-{pid}-*")]


@pytest.mark.parametrize(
    ("files", "fields", "param"),
    [
        ([], {"image": "data:image/png;base64,AAAA"}, "image"),
        ([("mask", ("m", encoded(noise())))], {}, "image"),
        ([("image", ("a", encoded(noise()))), ("mask", ("m", encoded(noise())))], {}, "mask"),
        ([("image", ("a", encoded(noise()))), ("markup", ("m", encoded(noise())))], {}, "markup"),
        ([("image", ("a", encoded(noise())))] * 17, {}, "image"),
        ([("image", ("a", encoded(noise())))], {"prompt": ""}, "prompt"),
        ([("image", ("a", encoded(noise())))], {"size": "large"}, "size"),
        ([("image", ("a", encoded(noise())))], {"guidance_scale": "2"}, "guidance_scale"),
    ],
)
def test_invalid_forms_are_rejected(
    server: ServerProcess, files: list[Any], fields: dict[str, str], param: str
) -> None:
    # A file that is ignored makes the client send a form.
    assert error_of(upload(server, [*files, ("other", ("o", b"x"))], **fields), 400)["param"] == param


# Rejected requests


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "x" * 1001}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"size": "17x16"}, "size"),
        ({"size": "0x16"}, "size"),
        ({"size": "16 x 16"}, "size"),
        ({"size": "99999x99999"}, "size"),
        ({"size": "4096x2048"}, "size"),
        ({"steps": 0}, "steps"),
        ({"steps": 51}, "steps"),
        ({"guidance_scale": 3.5}, "guidance_scale"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"negative_prompt": "a dog"}, "negative_prompt"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**60}, "seed"),
        ({"priority": "urgent"}, "priority"),
        ({"response_format": "file"}, "response_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"partial_images": 1}, "partial_images"),
        ({"stream": True, "size": "17x16"}, "size"),
        ({"stream": True, "response_format": "url"}, "stream"),
        ({"stream": True, "async_mode": True}, "async_mode"),
    ],
)
def test_invalid_requests_are_rejected(server: ServerProcess, more: dict[str, Any], param: str) -> None:
    assert error_of(post(server, {"model": "make", **SMALL, **more}, GENERATIONS), 400)["param"] == param


def test_a_model_either_generates_or_edits(server: ServerProcess) -> None:
    error = error_of(post(server, {"model": "edit", **SMALL}, GENERATIONS), 400)
    assert error["code"] == "unsupported_request"
    assert "image edit" in error["message"]
    assert "lora, make" in error["message"]
    assert error_of(post(server, {"model": "none", **SMALL}, GENERATIONS), 404)["code"] == "model_not_found"


def test_variations_are_not_supported(client: openai.OpenAI) -> None:
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.NotFoundError, match="use /v1/images/edits"),
    ):
        client.images.create_variation(image=encoded(noise()))


def test_missing_optional_libraries_are_not_reported(client: openai.OpenAI, server: ServerProcess) -> None:
    assert client.models.list().data
    assert [line for line in server.lines if "PyTorch" in line] == []


def test_steps_are_in_the_log(client: openai.OpenAI, server: ServerProcess) -> None:
    make(client, steps=20, n=2)
    shown = (1, *range(2, 21, 2))
    steps = [f": image {image} of 2, step {step} of 20" for image in (1, 2) for step in shown]
    server.wait_for_line(steps[-1])
    logged = [line[line.index(": image") :] for line in server.lines if line.endswith(" of 20")]
    assert logged == steps


def test_a_truncated_prompt_is_reported(client: openai.OpenAI, server: ServerProcess) -> None:
    response = make(client, prompt="🙂" * 300)
    warning = f"The prompt has {response.usage.input_tokens} tokens, of which the model reads the first 512"
    server.wait_for_line(warning)
    asked = {"model": "make", "prompt": "🙂" * 300, "size": "16x16"}
    assert warning in post(server, asked, "/v1/images/generations").headers["x-mlx-host-warning"]
    assert f": x-mlx-host-warning: {warning}" in post(server, {**asked, "stream": True}, "/v1/images/generations").text
    path = start_job(server, prompt="🙂" * 300)
    job = eventually(lambda: (now := get(server, path)).json()["status"] == "completed" and now)
    assert warning in job.headers["x-mlx-host-warning"]
    assert "x-mlx-host-warning" not in post(server, {**asked, "prompt": "a"}, "/v1/images/generations").headers
    assert get(server, "/metrics").text.count("mlx_host_unparsed_answers_total{") == 0
