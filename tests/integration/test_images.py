"""Pictures from the real server, asked for by OpenAI's client: a random FLUX.2 klein makes and edits them."""

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
# As few pixels and steps as make a picture; with so many pictures of so many steps a request is still at it when asked.
SMALL: dict[str, Any] = {"prompt": "a cat", "size": "16x16", "steps": 1}
LONG: dict[str, Any] = {**SMALL, "steps": 50, "n": 10}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The same weights three times: to make pictures, to make them with a LoRA, and to edit."""
    folder = tmp_path_factory.mktemp("images")
    model = write_tiny_flux(folder / "flux")
    lora = write_tiny_lora(folder / "lora.safetensors")
    shared = {"backend": "flux", "model": str(model), "config_name": "flux2-klein-4b", "quantize": 16}
    models: list[dict[str, Any]] = [
        {**shared, "served_model_name": "make"},
        {**shared, "served_model_name": "lora", "lora_paths": [str(lora)], "lora_scales": [4.0]},
        {**shared, "served_model_name": "edit", "task": "image-edit", "max_image_mb": 0.1},
    ]
    # On a CPU, MLX compiles by the system's C++ compiler, which takes longer than it wins here.
    env = {"MLX_DISABLE_COMPILE": "1", **BLAS}
    variables = "".join(f"env.{name} = {json.dumps(value)}\n" for name, value in env.items())
    config = folder / "mlx-host.toml"
    tables = ["".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()) for table in models]
    config.write_text("".join(f"[[models]]\n{table}{variables}" for table in tables))
    with pytest.MonkeyPatch.context() as patch:
        # mlx-lm sets it where it is imported, as it is beside these tests.
        patch.delenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", raising=False)
        with running_server("--config", str(config)) as running:
            yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with sdk(server) as client:
        yield client


def make(client: openai.OpenAI, model: str = "make", **more: Any) -> Any:
    """Ask for pictures as the SDK does; what it does not know goes along as it is."""
    known = {"n", "size", "quality", "response_format", "output_format", "output_compression", "stream"}
    given = {**SMALL, **more}
    own = {key: given.pop(key) for key in list(given) if key not in known | {"prompt", "partial_images", "background"}}
    return client.images.generate(model=model, **given, extra_body=own)


def edit(client: openai.OpenAI, image: Any, **more: Any) -> Any:
    own = {key: more.pop(key) for key in list(more) if key in ("steps", "seed", "guidance_scale", "negative_prompt")}
    return client.images.edit(model="edit", image=image, prompt="a dog", extra_body={"steps": 1, **own}, **more)


def content(picture: Any) -> bytes:
    return base64.b64decode(picture.b64_json)


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


# Generation


def test_pictures_have_the_size_and_format_that_was_asked_for(client: openai.OpenAI) -> None:
    answer = make(client, size="32x16", seed=1)
    assert (answer.size, answer.output_format, answer.background) == ("32x16", "png", "opaque")
    picture = opened(content(answer.data[0]))
    assert (picture.size, picture.format, picture.mode) == ((32, 16), "PNG", "RGB")
    assert answer.usage.output_tokens == 2
    assert answer.usage.input_tokens == answer.usage.input_tokens_details.text_tokens == 2


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_other_formats(client: openai.OpenAI, format: str) -> None:
    answer = make(client, output_format=format, output_compression=50)
    assert opened(content(answer.data[0])).format == format.upper()
    assert answer.output_format == format


def test_a_seed_makes_the_same_picture_again(client: openai.OpenAI) -> None:
    first, second = make(client, seed=7, n=2).data
    assert (first.seed, second.seed) == (7, 8)
    assert content(first) != content(second)
    (again,) = make(client, seed=8).data
    assert content(again) == content(second)


def test_a_seed_that_was_drawn_is_told(client: openai.OpenAI) -> None:
    (picture,) = make(client).data
    (again,) = make(client, seed=picture.seed).data
    assert content(again) == content(picture)
    assert make(client).data[0].seed != picture.seed


def test_the_prompt_and_the_steps_count(client: openai.OpenAI) -> None:
    pictures = [make(client, seed=1, **more).data[0] for more in ({}, {"prompt": "a dog"}, {"steps": 2})]
    assert len({content(picture) for picture in pictures}) == 3


def test_a_lora_changes_the_picture(client: openai.OpenAI) -> None:
    plain, changed = (make(client, model, seed=1).data[0] for model in ("make", "lora"))
    assert content(plain) != content(changed)


def test_a_picture_can_be_fetched(client: openai.OpenAI, server: ServerProcess) -> None:
    (picture,) = make(client, seed=1, response_format="url").data
    assert picture.url.startswith(f"{server.url}/v1/images/files/")
    fetched = httpx2.get(picture.url)
    assert fetched.headers["content-type"] == "image/png"
    assert fetched.content == content(make(client, seed=1).data[0])
    assert error_of(get(server, "/v1/images/files/nothing.png"), 404)["code"] == "file_not_found"


def test_what_changes_nothing_is_listed(server: ServerProcess) -> None:
    habits = {"quality": "high", "background": "auto", "style": "vivid", "moderation": "low", "user": "me"}
    answer = post(server, {"model": "make", **SMALL, **habits, "n": None, "output_compression": 5}, GENERATIONS)
    assert answer.status_code == 200
    listed = answer.headers["x-mlx-host-ignored"].split(", ")
    assert set(listed) == {*habits, "output_compression"}


# Streams


def test_a_stream_shows_the_picture_on_its_way(client: openai.OpenAI) -> None:
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
    assert [content(event) for event in (events[2], events[5])] == [content(picture) for picture in whole]
    assert (events[2].usage.output_tokens, events[5].seed) == (1, 4)


def test_a_stream_without_unfinished_pictures(client: openai.OpenAI) -> None:
    (event,) = make(client, stream=True)
    assert event.type == "image_generation.completed"


def test_a_client_that_leaves_a_stream_frees_the_slot_within_a_step(
    client: openai.OpenAI, server: ServerProcess
) -> None:
    with make(client, **LONG, stream=True, partial_images=3, seed=1) as stream:
        assert next(iter(stream)).type == "image_generation.partial_image"
    assert len(make(client).data) == 1
    wait_for_queue(server, 0)
    lines = eventually(lambda: [line for line in server.lines if line.endswith(": cancelled")])
    cancelled = re.findall(r"img-\w+", lines[-1])[0]
    assert not any(f"{cancelled}: image 2 of" in line for line in server.lines)


# Jobs


def begin(server: ServerProcess, model: str = "make", **more: Any) -> str:
    """Begin a job and return its path."""
    answer = post(server, {"model": model, **SMALL, "async_mode": True, **more}, GENERATIONS)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{JOBS}/{answer.json()['id']}"
    return answer.headers["location"]


def test_a_job_tells_how_it_gets_on_and_gives_its_pictures(client: openai.OpenAI, server: ServerProcess) -> None:
    path = begin(server, seed=5, n=2)
    job = eventually(lambda: (now := get(server, path).json())["status"] == "completed" and now)
    assert (job["model"], job["seed"], job["n"], job["completed"]) == ("make", 5, 2, 2)
    assert (job["step"], job["steps"], job["error"]) == (1, 1, None)
    assert job["expires_at"] > job["created_at"]
    waited = make(client, seed=5, n=2)
    assert [each["b64_json"] for each in job["result"]["data"]] == [picture.b64_json for picture in waited.data]
    assert [each["seed"] for each in job["result"]["data"]] == [5, 6]
    assert httpx2.delete(f"{server.url}{path}").json()["status"] == "completed"
    assert error_of(get(server, path), 404)["code"] == "job_not_found"


def test_a_job_gives_addresses(server: ServerProcess) -> None:
    path = begin(server, response_format="url")
    job = eventually(lambda: (now := get(server, path).json())["status"] == "completed" and now)
    url = job["result"]["data"][0]["url"]
    assert opened(httpx2.get(url).content).size == (16, 16)
    httpx2.delete(f"{server.url}{path}")
    assert httpx2.get(url).status_code == 404


def test_a_job_that_is_deleted_stops_within_a_step(client: openai.OpenAI, server: ServerProcess) -> None:
    path = begin(server, **LONG)
    eventually(lambda: get(server, path).json()["step"])
    assert httpx2.delete(f"{server.url}{path}").json()["status"] == "cancelled"
    assert len(make(client).data) == 1
    job = get(server, path).json()
    assert (job["status"], job["result"]) == ("cancelled", None)
    assert job["completed"] < 10
    wait_for_queue(server, 0)


def test_a_job_that_is_refused_says_why(server: ServerProcess) -> None:
    path = begin(server, size="17x16")
    job = eventually(lambda: (now := get(server, path).json())["status"] == "failed" and now)
    assert job["error"]["param"] == "size"
    assert "multiples of 16" in job["error"]["message"]


def test_the_queue_goes_by_priority(server: ServerProcess) -> None:
    long = begin(server, **LONG)
    wait_for_queue(server, 1)
    # Their numbers of pictures tell them apart in the log.
    low = begin(server, n=2, seed=1, priority="low")
    high = begin(server, n=3, seed=1, priority="high")
    assert queue(server) == (1, 2)
    httpx2.delete(f"{server.url}{long}")
    for path in (low, high):
        eventually(lambda path=path: get(server, path).json()["status"] == "completed")  # type: ignore[misc]  # a lambda's default
    wanted = re.compile(r"image generation: .*\+ ([23]) completion tokens.*: stop")

    def order() -> list[str]:
        return [match[1] for match in map(wanted.search, server.lines) if match]

    eventually(lambda: "3" in order() and order()[-1] == "2")


# Edits


def test_an_edit_takes_an_image_and_its_size(client: openai.OpenAI) -> None:
    image = encoded(noise(40, 24))
    answer = edit(client, image)
    assert opened(content(answer.data[0])).size == (32, 16)
    assert answer.data[0].seed == 42
    assert answer.usage.input_tokens_details.image_tokens == 2
    assert content(edit(client, image).data[0]) == content(answer.data[0])
    assert content(edit(client, encoded(Image.new("RGB", (40, 24)))).data[0]) != content(answer.data[0])
    assert content(edit(client, image, seed=1).data[0]) != content(answer.data[0])


def test_an_edit_takes_several_images(client: openai.OpenAI) -> None:
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


def test_both_names_of_the_images_are_taken(server: ServerProcess) -> None:
    image = ("a.png", encoded(noise(16, 16)))
    answer = upload(server, [("image", image), ("image[]", image)], size="16x16")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] == 2


def test_bad_images_are_refused_and_leave_nothing_behind(client: openai.OpenAI, server: ServerProcess) -> None:
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
def test_bad_forms_are_refused(server: ServerProcess, files: list[Any], fields: dict[str, str], param: str) -> None:
    # A file that is not heeded makes the client send a form.
    assert error_of(upload(server, [*files, ("other", ("o", b"x"))], **fields), 400)["param"] == param


# What is refused


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
def test_bad_requests_are_refused(server: ServerProcess, more: dict[str, Any], param: str) -> None:
    assert error_of(post(server, {"model": "make", **SMALL, **more}, GENERATIONS), 400)["param"] == param


def test_a_model_is_for_one_of_the_two(server: ServerProcess) -> None:
    error = error_of(post(server, {"model": "edit", **SMALL}, GENERATIONS), 400)
    assert error["code"] == "unsupported_request"
    assert "it serves: image edit. Served here for image generation: lora, make." in error["message"]
    assert error_of(post(server, {"model": "none", **SMALL}, GENERATIONS), 404)["code"] == "model_not_found"


def test_variations_are_not_made(client: openai.OpenAI) -> None:
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.NotFoundError, match="use /v1/images/edits"),
    ):
        client.images.create_variation(image=encoded(noise()))


def test_libraries_that_are_not_needed_are_not_missed(client: openai.OpenAI, server: ServerProcess) -> None:
    assert client.models.list().data
    assert [line for line in server.lines if "PyTorch" in line] == []


def test_steps_are_in_the_log(client: openai.OpenAI, server: ServerProcess) -> None:
    make(client, steps=20, n=2)
    shown = (1, *range(2, 21, 2))
    steps = [f": image {image} of 2, step {step} of 20" for image in (1, 2) for step in shown]
    server.wait_for_line(steps[-1])
    said = [line[line.index(": image") :] for line in server.lines if line.endswith(" of 20")]
    assert said == steps


def test_a_prompt_that_is_not_read_to_its_end_is_in_the_log(client: openai.OpenAI, server: ServerProcess) -> None:
    answer = make(client, prompt="🙂" * 300)
    server.wait_for_line(f"the model reads 512 of {answer.usage.input_tokens} tokens")
