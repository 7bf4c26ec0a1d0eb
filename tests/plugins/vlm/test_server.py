"""A vision model behind the real server, through OpenAI's and Anthropic's clients."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import pytest
from PIL import Image

from tests.support.client import CHAT, error_of, events, post, sdk
from tests.support.command import mlx_host
from tests.support.edge_case_images import DATA_URLS, EDGE_CASE_IMAGES, SIZE, png_header
from tests.support.media import data_url, encoded, image_part, image_url, look, noise
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_vlm import write_tiny_qwen2_vl

MODEL: dict[str, Any] = {"model": "tiny"}
LENGTH = 8
# Greedy constrained output of a random model may be whitespace without end.
SAMPLED: dict[str, Any] = {"temperature": 1.2, "seed": 1}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def image_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with an image at /cat.png."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "cat.png").write_bytes(encoded(noise(1)))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_tiny_qwen2_vl(tmp_path_factory.mktemp("model") / "tiny")
    options = [
        "--tool-call-parser",
        "hermes",
        "--temperature",
        "0",
        "--context-length",
        "500",
        "--max-image-pixels",
        "7056",
    ]
    remote = ["--allow-remote-media", "--trusted-media-hosts", "127.0.0.1"]
    with running_server("--backend", "vlm", "--model", str(folder), *options, *remote, *FAST_BLAS) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with sdk(server) as client:
        yield client


def chat(client: openai.OpenAI, messages: Any, **more: Any) -> Any:
    return client.chat.completions.create(**MODEL, messages=messages, **{"max_tokens": LENGTH, **more}).choices[0]


def test_all_apis_accept_images(server: ServerProcess, client: openai.OpenAI) -> None:
    expected_texts = [chat(client, look(seed)).message.content for seed in (1, 2)]
    assert expected_texts[0] != expected_texts[1]
    for seed, expected in zip((1, 2), expected_texts, strict=True):
        content: Any = [
            {"type": "input_image", "image_url": image_url(seed)},
            {"type": "input_text", "text": "What is it?"},
        ]
        response = client.responses.create(
            **MODEL, input=[{"role": "user", "content": content}], max_output_tokens=LENGTH
        )
        assert response.output_text == expected
        source: Any = {
            "type": "base64",
            "media_type": "image/png",
            "data": base64.b64encode(encoded(noise(seed))).decode(),
        }
        with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as anthropic_client:
            blocks: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
            message = anthropic_client.messages.create(
                **MODEL, max_tokens=LENGTH, messages=[{"role": "user", "content": blocks}]
            )
        assert message.content[0].to_dict()["text"] == expected
        assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == 24


def test_a_stream_has_the_text_of_the_plain_response(client: openai.OpenAI) -> None:
    plain = chat(client, look(3), logprobs=True, top_logprobs=2)
    assert len(plain.logprobs.content) == LENGTH
    body: Any = {**MODEL, "messages": look(3), "max_tokens": LENGTH, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(**body, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == plain.message.content
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (24, LENGTH)


def test_output_for_an_image_can_be_constrained_by_a_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"cat": {"type": "boolean"}}, "required": ["cat"]}
    response_format = {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {**schema, "additionalProperties": False}},
    }
    for seed in (1, 2):
        choice = chat(client, look(seed), response_format=response_format, max_tokens=200, **SAMPLED)
        assert choice.finish_reason == "stop", choice
        assert list(json.loads(choice.message.content)) == ["cat"]


def test_a_tool_call_for_an_image_can_be_forced(client: openai.OpenAI) -> None:
    parameters = {"type": "object", "properties": {"cat": {"type": "boolean"}}, "required": ["cat"]}
    function = {"name": "report", "parameters": {**parameters, "additionalProperties": False}}
    options: dict[str, Any] = {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    choice = chat(client, look(1), **options, parallel_tool_calls=False, max_tokens=200, **SAMPLED)
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0].function
    assert call.name == "report"
    assert list(json.loads(call.arguments)) == ["cat"]


def test_a_tool_result_can_be_an_image(client: openai.OpenAI) -> None:
    def after(seed: int) -> str:
        call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        messages = [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": [image_part(image_url(seed))]},
        ]
        choice = chat(client, messages, logprobs=True)
        return str([round(each.logprob, 2) for each in choice.logprobs.content])

    assert after(1) != after(2)


def test_a_remote_image_is_fetched_from_a_trusted_host(client: openai.OpenAI, image_server: str) -> None:
    messages = [{"role": "user", "content": [image_part(f"{image_server}/cat.png"), *look(1)[0]["content"][1:]]}]
    assert chat(client, messages).message.content == chat(client, look(1)).message.content


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("SERVER/missing.png", "404"),
        ("LOCALHOST/cat.png", "is not public"),
        ("http://169.254.169.254/latest/meta-data", "is not public"),
        ("file:///etc/passwd", "not an http or https URL"),
        (data_url(encoded(noise(1))[:-30]), "damaged or truncated"),
        (data_url(b"GIF89a"), "not an image|damaged"),
    ],
)
def test_an_image_that_cannot_be_loaded_is_a_400(
    server: ServerProcess, image_server: str, url: str, message: str
) -> None:
    url = url.replace("SERVER", image_server).replace("LOCALHOST", image_server.replace("127.0.0.1", "localhost"))
    body = {**MODEL, "messages": [{"role": "user", "content": [image_part(url)]}]}
    error = error_of(post(server, body, CHAT), 400)
    assert error["param"] == "messages"
    assert any(part in error["message"] for part in message.split("|")), error["message"]


def test_an_image_above_the_limit_is_scaled_down(client: openai.OpenAI) -> None:
    large: Any = {**MODEL, "messages": [{"role": "user", "content": [image_part(image_url(1, (840, 840)))]}]}
    small: Any = {**MODEL, "messages": [{"role": "user", "content": [image_part(image_url(1, (84, 84)))]}]}
    tokens = [client.chat.completions.create(**each, max_tokens=1).usage for each in (large, small)]
    assert tokens[0].prompt_tokens == tokens[1].prompt_tokens


def test_images_can_be_embedded(client: openai.OpenAI) -> None:
    response = client.embeddings.create(**MODEL, input=["", ""], extra_body={"image_url": [image_url(1), image_url(2)]})
    first, second = (each.embedding for each in response.data)
    assert len(first) == 64
    assert first != second
    with pytest.raises(openai.BadRequestError, match=r"image_url\[0\]: "):
        client.embeddings.create(**MODEL, input="", extra_body={"image_url": "http://localhost/cat.png"})


def test_an_image_is_processed_as_displayed(server: ServerProcess, client: openai.OpenAI) -> None:
    def logprobs(url: str) -> list[float]:
        content = chat(client, [{"role": "user", "content": [image_part(url)]}], logprobs=True).logprobs.content
        return [each.logprob for each in content]

    white = logprobs(data_url(encoded(Image.new("RGB", SIZE, "white"))))
    assert logprobs(data_url(EDGE_CASE_IMAGES["alpha 0"].file)) == pytest.approx(white, abs=1e-3)
    assert logprobs(DATA_URLS["upper case base64"]) == logprobs(DATA_URLS["as usual"])
    body = {**MODEL, "messages": [{"role": "user", "content": [image_part(data_url(png_header(20_000, 10_000)))]}]}
    assert error_of(post(server, body, CHAT), 413)["code"] == "image_too_large"


def test_tokenize_counts_the_tokens_of_images(server: ServerProcess) -> None:
    tokens = post(server, {**MODEL, "messages": look(1)}, "/tokenize").json()
    assert tokens["count"] == 24


def test_help_lists_the_options() -> None:
    shown = mlx_host("run", "--backend", "vlm", "--help").stdout
    flags = ("context-length", "chat-template-file", "trust-remote-code", "max-image-pixels", "disable-auto-resize")
    for flag in (*flags, "allow-remote-media", "trusted-media-hosts"):
        assert f"--{flag}" in shown


def test_concurrent_streams_with_images(server: ServerProcess) -> None:
    texts: dict[int, str] = {}

    def stream(seed: int) -> None:
        body = {**MODEL, "messages": look(seed), "max_tokens": LENGTH, "stream": True}
        chunks = events(post(server, body, CHAT).text)
        texts[seed] = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)

    alone = {}
    for seed in (1, 2, 3, 4):
        stream(seed)
        alone[seed] = texts.pop(seed)
    threads = [threading.Thread(target=stream, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == alone
