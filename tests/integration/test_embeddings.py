"""POST /v1/embeddings with real models on a real server, with OpenAI's client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from tests.plugins.embeddings.tiny_multimodal import image_url, write_tiny_siglip
from tests.support.client import connection, error_of, eventually, head, post, queue, sdk
from tests.support.edge_case_images import DATA_URLS, png_header
from tests.support.media import data_url
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

EMBEDDINGS = "/v1/embeddings"
SENTENCES = [
    "How do I get back into my account?",
    "Steps for resetting a forgotten password.",
    "The cat sat on the mat.",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """all-MiniLM-L6-v2 as `minilm`, and a random text model as `llama`."""
    folder = tmp_path_factory.mktemp("embeddings")
    llama = write_tiny_llama(folder / "llama", context_length=512)
    config = folder / "mlx-host.toml"
    models = [
        {"backend": "embeddings", "model": "demo:minilm", "served_model_name": "minilm"},
        {"backend": "lm", "model": str(llama), "served_model_name": "llama"},
    ]
    tables = ["".join(f"{key} = {json.dumps(value)}\n" for key, value in model.items()) for model in models]
    config.write_text("".join(f"[[models]]\n{table}" for table in tables))
    with running_server("--config", str(config), *FAST_BLAS) as running:
        yield running


def vectors(response: openai.types.CreateEmbeddingResponse) -> Any:
    assert [each.index for each in response.data] == list(range(len(response.data)))
    return np.array([each.embedding for each in response.data], np.float64)


def raw(server: ServerProcess, **body: Any) -> Any:
    response = post(server, {"model": "minilm", **body}, EMBEDDINGS)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


@pytest.mark.parametrize("model", ["minilm", "llama"])
def test_both_encodings_are_the_same_numbers(client: openai.OpenAI, server: ServerProcess, model: str) -> None:
    by_default = client.embeddings.create(model=model, input=SENTENCES)
    as_floats = client.embeddings.create(model=model, input=SENTENCES, encoding_format="float")
    np.testing.assert_allclose(vectors(as_floats), vectors(by_default), atol=1e-6)
    written = raw(server, model=model, input=SENTENCES, encoding_format="base64")["data"][0]["embedding"]
    decoded = np.frombuffer(base64.b64decode(written), "<f4")
    np.testing.assert_allclose(decoded, vectors(as_floats)[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors(by_default), axis=1), 1, atol=1e-5)


def test_a_response_has_openai_s_format(server: ServerProcess) -> None:
    response = raw(server, input=["hello world", "cat"])
    assert {key: response[key] for key in response if key != "data"} == {
        "object": "list",
        "model": "minilm",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    for index, each in enumerate(response["data"]):
        assert set(each) == {"object", "index", "embedding"}
        assert (each["object"], each["index"], len(each["embedding"])) == ("embedding", index, 384)
        assert all(isinstance(number, (int, float)) for number in each["embedding"])


def test_similar_texts_have_similar_vectors(client: openai.OpenAI) -> None:
    account, password, cat = vectors(client.embeddings.create(model="minilm", input=SENTENCES))
    assert account @ password > 0.4 > 0.2 > account @ cat


def test_token_ids_and_lists_of_token_ids(client: openai.OpenAI) -> None:
    tokens = [101, 7592, 2088, 102]
    text, one, many = (
        vectors(client.embeddings.create(model="minilm", input=given))
        for given in ("hello world", tokens, [tokens, [101, 102]])
    )
    np.testing.assert_allclose(one, text, atol=1e-5)
    np.testing.assert_allclose(many[:1], text, atol=1e-5)
    assert len(many) == 2


@pytest.mark.parametrize("model", ["minilm", "llama"])
def test_order_is_kept_over_many_batches(client: openai.OpenAI, model: str) -> None:
    texts = [f"{'word ' * (number % 37)}number {number}" for number in range(300)]
    together = client.embeddings.create(model=model, input=texts)
    some = range(0, 300, 43)
    baseline = [vectors(client.embeddings.create(model=model, input=texts[number]))[0] for number in some]
    np.testing.assert_allclose(vectors(together)[list(some)], baseline, atol=1e-4)


def test_concurrent_clients_get_their_own_vectors(client: openai.OpenAI) -> None:
    texts = [f"{'again ' * (number % 5)}{number}" for number in range(48)]
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda text: client.embeddings.create(model="minilm", input=text), texts))
    expected = vectors(client.embeddings.create(model="minilm", input=texts))
    np.testing.assert_allclose(np.concatenate([vectors(response) for response in responses]), expected, atol=1e-4)


@pytest.mark.parametrize(("model", "limit"), [("minilm", 256), ("llama", 512)])
def test_too_long_input_is_rejected_or_truncated(server: ServerProcess, model: str, limit: int) -> None:
    body = {"model": model, "input": ["short", "far too long " * limit]}
    error = error_of(post(server, body, EMBEDDINGS), 400)
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "input[1]"
    assert f"maximum context length is {limit} tokens" in error["message"]
    response = post(server, {**body, "truncate": True}, EMBEDDINGS).json()
    assert len(response["data"]) == 2
    assert limit < response["usage"]["prompt_tokens"] <= limit + 3


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "input", "missing"),
        ({"input": None}, "input", "a string, a list of strings"),
        ({"input": ""}, "input", "empty"),
        ({"input": []}, "input", "empty"),
        ({"input": [[]]}, "input", "item 0 is empty"),
        ({"input": ["a", ""]}, "input[1]", "empty"),
        ({"input": ["a", 3]}, "input", "item 1 must be"),
        ({"input": ["a", [3]]}, "input", "mixed"),
        ({"input": [[3], [True]]}, "input", "item 1 must be"),
        ({"input": {"text": "a"}}, "input", "must be a string"),
        ({"input": [30522]}, "input", "token id 30522 is out of range"),
        ({"input": [[1], [-1]]}, "input[1]", "token id -1 is out of range"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "float"),
        ({"input": "a", "dimensions": 0}, "dimensions", "at least 1"),
        ({"input": "a", "dimensions": 128}, "dimensions", "not trained for shorter"),
        ({"input": "a", "dimensions": 1000}, "dimensions", "384"),
        ({"input": "a", "input_type": "novel"}, "input_type", "query"),
        ({"input": "a", "image_url": "data:image/png;base64,AAAA"}, "image_url", "does not support images"),
        ({"input": ["a", "b"], "image_url": "data:,"}, "image_url", "1 images for 2 inputs"),
        ({"input": "a", "image_url": 7}, "image_url", "must be a URL"),
    ],
)
def test_an_invalid_field_is_rejected_by_name(server: ServerProcess, body: Any, param: str, words: str) -> None:
    error = error_of(post(server, {"model": "minilm", **body}, EMBEDDINGS), 400)
    assert error["param"] == param
    assert words in error["message"]


def test_nulls_are_defaults_and_fields_without_effect_are_listed(server: ServerProcess) -> None:
    nothing = dict.fromkeys(("encoding_format", "dimensions", "truncate", "input_type", "image_url", "user"))
    response = post(server, {"model": "minilm", "input": "a", **nothing, "user": "me"}, EMBEDDINGS)
    assert response.status_code == 200
    assert response.headers["x-mlx-host-ignored"] == "user"


def test_chat_with_an_embedding_model_is_rejected_with_an_alternative(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as rejection:
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "Hello"}])
    assert rejection.value.code == "unsupported_request"
    assert all(fact in rejection.value.message for fact in ("'minilm'", "supported: embeddings", "llama"))


def test_a_text_model_serves_embeddings_and_chat(client: openai.OpenAI, server: ServerProcess) -> None:
    conversation = {"messages": [{"role": "user", "content": "Hello"}]}
    with ThreadPoolExecutor(2) as pool:
        chat = pool.submit(post, server, {"model": "llama", **conversation, "max_tokens": 40, "temperature": 0})
        during_chat = [vectors(client.embeddings.create(model="llama", input=SENTENCES)) for _ in range(5)]
    assert chat.result().json()["usage"]["completion_tokens"] > 0
    for first, second in pairwise(during_chat):
        np.testing.assert_allclose(first, second, atol=1e-4)


def test_disconnecting_frees_the_slot(server: ServerProcess) -> None:
    body = json.dumps({"model": "llama", "input": ["word " * 400] * 20000}).encode()
    with connection(server) as connected:
        connected.sendall(head(body, EMBEDDINGS) + body)
        eventually(lambda: queue(server, "llama")[0] == 1)
    eventually(lambda: queue(server, "llama") == (0, 0))


def test_usage_is_in_the_log(server: ServerProcess) -> None:
    raw(server, input="hello world")
    server.wait_for_line("model=minilm task=embeddings outcome=stop prompt_tokens=4 ")


def test_the_backend_s_flags_are_in_its_help_and_work() -> None:
    with running_server(
        *("--backend", "embeddings", "--model", "demo:minilm", "--query-prefix", "Find: ", "--matryoshka"),
        *("--context-length", "16", "--batch-tokens", "64", *FAST_BLAS),
    ) as server:
        query = raw(server, input="a cat", input_type="query")["data"][0]["embedding"]
        whole = raw(server, input="Find: a cat")["data"][0]["embedding"]
        np.testing.assert_allclose(query, whole, atol=1e-5)
        short = np.array(raw(server, input="Find: a cat", dimensions=64)["data"][0]["embedding"])
        np.testing.assert_allclose(short, np.array(whole[:64]) / np.linalg.norm(whole[:64]), atol=1e-5)
        error = error_of(post(server, {"input": "word " * 20}, EMBEDDINGS), 400)
        assert "16 tokens" in error["message"]
        many = raw(server, input=["word " * number for number in range(1, 13)])
        assert len(many["data"]) == 12


def test_a_multimodal_model_embeds_images(tmp_path: Path) -> None:
    with running_server("--backend", "embeddings", "--model", str(write_tiny_siglip(tmp_path))) as server:
        with sdk(server) as client:
            given: list[Any] = [image_url("red"), {"url": image_url("red")}, [image_url("red"), image_url("blue")]]
            one, same, two = (
                vectors(client.embeddings.create(model="any", input="", extra_body={"image_url": each}))
                for each in given
            )
        np.testing.assert_allclose(one, same)
        np.testing.assert_allclose(one, two[:1], atol=1e-5)
        assert np.abs(two[0] - two[1]).max() > 0.01
        spellings = raw(server, input=[""] * len(DATA_URLS), image_url=list(DATA_URLS.values()))["data"]
        np.testing.assert_allclose(
            [each["embedding"] for each in spellings], [spellings[0]["embedding"]] * len(spellings)
        )
        large = error_of(post(server, {"image_url": data_url(png_header(10_000, 9_000))}, EMBEDDINGS), 413)
        assert large["code"] == "image_too_large"
        response = post(server, {"image_url": "https://example.com/cat.png"}, EMBEDDINGS)
        assert "not a data URL" in error_of(response, 400)["message"]
