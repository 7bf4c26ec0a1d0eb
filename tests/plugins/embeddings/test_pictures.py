"""Image input, on tiny random models: an image has a vector of its own, and it is the one that the library gives."""

from __future__ import annotations

import base64
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_embeddings.models.qwen3_vl import Processor
from mlx_embeddings.utils import load_model
from mlx_host.errors import ContextLengthExceeded, InvalidRequest
from mlx_host.events import Started
from mlx_host.testing.model_contract import Visit, together
from mlx_host_embeddings.images import read_image
from mlx_host_embeddings.model import EmbeddingModel
from PIL import Image
from transformers import AutoImageProcessor

from tests.plugins.embeddings.driver import Vectors, ask, embed, load, vectors_of
from tests.plugins.embeddings.tiny_pictures import picture, write_tiny_qwen3_vl, write_tiny_siglip

RED, BLUE = picture("red"), picture("blue", (40, 90), "JPEG")


def damaged_avif() -> str:
    """A picture whose pixels are zeros where their code should be."""
    head, _, body = picture("red", kind="AVIF").partition(",")
    file = base64.b64decode(body)
    kept = file.index(b"mdat") + 4
    return f"{head},{base64.b64encode(file[:kept].ljust(len(file), bytes(1))).decode()}"


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def siglip(siglip_folder: Path) -> EmbeddingModel:
    return load(siglip_folder)


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen3_vl(tmp_path_factory.mktemp("qwen3-vl"))


@pytest.fixture(scope="module")
def qwen(qwen_folder: Path) -> EmbeddingModel:
    return load(qwen_folder)


def test_siglip_s_images_have_the_library_s_vectors(siglip: EmbeddingModel, siglip_folder: Path) -> None:
    network = load_model(siglip_folder, path_to_repo="medsiglip")
    processor = AutoImageProcessor.from_pretrained(siglip_folder, backend="pil")
    pixels = processor(images=[read_image(RED), read_image(BLUE)], return_tensors="np")["pixel_values"]
    expected = np.array(network.get_image_features(mx.array(pixels)))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = embed(siglip, "", "", images=(RED, BLUE))
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


def test_siglip_s_texts_fill_all_positions(siglip: EmbeddingModel, siglip_folder: Path) -> None:
    network = load_model(siglip_folder, path_to_repo="medsiglip")
    tokens = [101, 1037, 4937, 102]
    expected = np.array(network.get_text_features(mx.array([tokens + [0] * 12])))[0]
    text, other = embed(siglip, "a cat", "a dog in a garden")
    np.testing.assert_allclose(text, expected / np.linalg.norm(expected), atol=1e-4)
    assert np.abs(text - other).max() > 0.01
    with pytest.raises(ContextLengthExceeded, match="16 tokens"):
        embed(siglip, "word " * 20)


def test_siglip_takes_texts_and_images_apart_at_once(siglip: EmbeddingModel) -> None:
    images, texts = together(siglip, [Visit(ask("", "", images=(RED, BLUE))), Visit(ask("a cat", "a dog"))])
    np.testing.assert_allclose(vectors_of(images), embed(siglip, "", "", images=(RED, BLUE)), atol=1e-5)
    np.testing.assert_allclose(vectors_of(texts), embed(siglip, "a cat", "a dog"), atol=1e-5)
    assert images[0] == Started(prompt_tokens=2 * 16)
    with pytest.raises(InvalidRequest, match="not a text together with an image"):
        embed(siglip, "a cat", images=(RED,))


def test_qwen3_vl_has_the_library_s_vectors(qwen: EmbeddingModel, qwen_folder: Path) -> None:
    network = load_model(qwen_folder, path_to_repo="")
    processor = Processor.from_pretrained(qwen_folder, trust_remote_code=False)

    def expected(**item: object) -> Vectors:
        network.language_model._position_ids = None
        vectors: Vectors = np.array(network(**processor.prepare_embedding_inputs([item])).text_embeds)
        return vectors.reshape(-1)

    red, both = embed(qwen, "", "what is it", images=(RED, BLUE))
    np.testing.assert_allclose(red, expected(image=read_image(RED)), atol=1e-4)
    np.testing.assert_allclose(both, expected(image=read_image(BLUE), text="what is it"), atol=1e-4)
    long, short = embed(qwen, "a much longer text than the other one is", "cat")
    np.testing.assert_allclose(long, expected(text="a much longer text than the other one is"), atol=1e-4)
    np.testing.assert_allclose(short, expected(text="cat"), atol=1e-4)
    assert np.abs(red - both).max() > 0.01


def test_qwen3_vl_takes_a_prefix_for_its_instruction(qwen_folder: Path) -> None:
    model = load(qwen_folder, query_prefix="Find what answers the question.")
    plain, query = embed(model, "cat"), embed(model, "cat", input_type="query")
    assert np.abs(plain - query).max() > 0.01


def test_qwen3_vl_s_context_holds_images_too(qwen_folder: Path) -> None:
    model = load(qwen_folder, context_length=40)
    assert embed(model, "", images=(picture("red"),)).shape == (1, 32)
    with pytest.raises(ContextLengthExceeded) as refusal:
        embed(model, "", images=(picture("red", (400, 400)),))
    assert refusal.value.param == "image_url"
    with pytest.raises(ContextLengthExceeded):
        embed(model, "word " * 60)
    assert embed(model, "word " * 60, truncate=True).shape == (1, 32)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.com/cat.png", "not fetched"),
        ("/etc/passwd", "not fetched"),
        ("file:///etc/passwd", "not fetched"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,@@@", "base64 cannot be read"),
        ("data:image/png;base64,AAAA", "cannot be read as an image"),
        ("data:image/png,AAAA", "cannot be read as an image"),
        (RED[:-40], "cannot be read"),
        (damaged_avif(), "cannot be read"),
        # Pillow would have Ghostscript run the program that this is.
        (picture("red", kind="EPS"), "PNG, JPEG, .* can be"),
    ],
)
def test_what_is_no_image_is_refused(url: str, words: str, siglip: EmbeddingModel) -> None:
    with pytest.raises(InvalidRequest, match=words) as refusal:
        embed(siglip, "", images=(url,))
    assert refusal.value.param == "image_url"


@pytest.mark.parametrize("limit", [None, 1000])
def test_an_image_that_unpacks_to_far_too_much_is_refused(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    # Whatever others in the process have Pillow take.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InvalidRequest, match="pixels"):
        read_image(picture("red", (10000, 9000)))
