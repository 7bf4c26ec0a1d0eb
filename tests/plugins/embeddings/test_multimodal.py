"""Images: the vectors of tiny random models equal those that mlx-embeddings computes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlx.core as mx
import numpy as np
import psutil
import pytest
from mlx_embeddings.models.qwen3_vl import Processor
from mlx_embeddings.utils import load_model
from mlx_host.errors import ContextLengthExceededError, InvalidRequestError, LoadError
from mlx_host.events import Started
from mlx_host.testing.model_contract import ScheduledRequest, run_together
from mlx_host_embeddings.model import EmbeddingModel
from mlx_host_media.data_urls import decode_data_url
from mlx_host_media.images import on_white
from PIL import Image, ImageOps
from transformers import AutoImageProcessor

from tests.plugins.embeddings.driver import Vectors, embed, embedding_request, load, vectors_of
from tests.plugins.embeddings.tiny_multimodal import image_url, write_tiny_qwen3_vl, write_tiny_siglip
from tests.support.edge_case_images import EDGE_CASE_IMAGES, png_header
from tests.support.media import data_url, encoded

RED, BLUE = image_url("red"), image_url("blue", (40, 90), "JPEG")


def opened(url: str) -> Image.Image:
    with Image.open(io.BytesIO(decode_data_url(url))) as image:
        return image.convert("RGB")


def damaged_avif() -> str:
    """An AVIF image with zeros in place of its data."""
    prefix, _, data = image_url("red", kind="AVIF").partition(",")
    file = base64.b64decode(data)
    header_length = file.index(b"mdat") + 4
    return f"{prefix},{base64.b64encode(file[:header_length].ljust(len(file), bytes(1))).decode()}"


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def siglip(siglip_folder: Path) -> Iterator[EmbeddingModel]:
    with closing(load(siglip_folder)) as model:
        yield model


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen3_vl(tmp_path_factory.mktemp("qwen3-vl"))


@pytest.fixture(scope="module")
def qwen(qwen_folder: Path) -> Iterator[EmbeddingModel]:
    with closing(load(qwen_folder)) as model:
        yield model


def test_siglip_images_have_the_vectors_of_mlx_embeddings(siglip: EmbeddingModel, siglip_folder: Path) -> None:
    network = load_model(siglip_folder, path_to_repo="medsiglip")
    processor = AutoImageProcessor.from_pretrained(siglip_folder, backend="pil")
    pixels = processor(images=[opened(RED), opened(BLUE)], return_tensors="np")["pixel_values"]
    expected = np.array(network.get_image_features(mx.array(pixels)))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = embed(siglip, "", "", images=(RED, BLUE))
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


def test_siglip_texts_are_padded_to_all_positions(siglip: EmbeddingModel, siglip_folder: Path) -> None:
    network = load_model(siglip_folder, path_to_repo="medsiglip")
    tokens = [101, 1037, 4937, 102]
    expected = np.array(network.get_text_features(mx.array([tokens + [0] * 12])))[0]
    text, other = embed(siglip, "a cat", "a dog in a garden")
    np.testing.assert_allclose(text, expected / np.linalg.norm(expected), atol=1e-4)
    assert np.abs(text - other).max() > 0.01
    with pytest.raises(ContextLengthExceededError, match="16 tokens"):
        embed(siglip, "word " * 20)


def test_siglip_texts_and_images_are_separate_requests_in_one_batch(siglip: EmbeddingModel) -> None:
    images, texts = run_together(
        siglip,
        [
            ScheduledRequest(embedding_request("", "", images=(RED, BLUE))),
            ScheduledRequest(embedding_request("a cat", "a dog")),
        ],
    )
    np.testing.assert_allclose(vectors_of(images), embed(siglip, "", "", images=(RED, BLUE)), atol=1e-5)
    np.testing.assert_allclose(vectors_of(texts), embed(siglip, "a cat", "a dog"), atol=1e-5)
    assert images[0] == Started(prompt_tokens=2 * 16)
    with pytest.raises(InvalidRequestError) as error:
        embed(siglip, "a cat", images=(RED,))
    assert error.value.param == "input"


def test_qwen3_vl_has_the_vectors_of_mlx_embeddings(qwen: EmbeddingModel, qwen_folder: Path) -> None:
    network = load_model(qwen_folder, path_to_repo="")
    processor = Processor.from_pretrained(qwen_folder, trust_remote_code=False)

    def expected(**item: object) -> Vectors:
        network.language_model._position_ids = None
        vectors: Vectors = np.array(network(**processor.prepare_embedding_inputs([item])).text_embeds)
        return vectors.reshape(-1)

    red, both = embed(qwen, "", "what is it", images=(RED, BLUE))
    np.testing.assert_allclose(red, expected(image=opened(RED)), atol=1e-4)
    np.testing.assert_allclose(both, expected(image=opened(BLUE), text="what is it"), atol=1e-4)
    long, short = embed(qwen, "a much longer text than the other one is", "cat")
    np.testing.assert_allclose(long, expected(text="a much longer text than the other one is"), atol=1e-4)
    np.testing.assert_allclose(short, expected(text="cat"), atol=1e-4)
    assert np.abs(red - both).max() > 0.01


def test_qwen3_vl_uses_a_prefix_as_its_instruction(qwen_folder: Path) -> None:
    model = load(qwen_folder, query_prefix="Find what answers the question.")
    plain, query = embed(model, "cat"), embed(model, "cat", input_type="query")
    assert np.abs(plain - query).max() > 0.01


def test_qwen3_vl_images_count_towards_the_context_length(qwen_folder: Path) -> None:
    with closing(load(qwen_folder, context_length=40)) as model:
        assert embed(model, "", images=(image_url("red"),)).shape == (1, 32)
        with pytest.raises(ContextLengthExceededError) as error:
            embed(model, "", images=(image_url("red", (400, 400)),))
        assert error.value.param == "image_url"
        with pytest.raises(ContextLengthExceededError):
            embed(model, "word " * 60)
        assert embed(model, "word " * 60, truncate=True).shape == (1, 32)


def test_truncation_keeps_the_vector_close_to_that_of_a_shorter_text(qwen_folder: Path) -> None:
    with closing(load(qwen_folder, context_length=40)) as model:
        (whole,) = model.embedder.encode([" ".join(["word"] * 60)], None)
        (cut,) = model.embedder.encode([" ".join(["word"] * 60)], None, 40)
        texts = ([" ".join(["word"] * count)] for count in range(1, 60))
        fitting = next(each for text in texts for each in model.embedder.encode(text, None) if len(each.tokens) == 40)
        assert list(cut.tokens) == list(fitting.tokens)
        assert len(whole.tokens) > 40


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_pooling_without_effect_is_rejected(qwen_folder: Path, siglip_folder: Path, pooling: str) -> None:
    for folder in (qwen_folder, siglip_folder):
        with pytest.raises(LoadError, match=f"--pooling {pooling}"):
            load(folder, pooling=pooling)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.com/cat.png", "not a data URL"),
        ("/etc/passwd", "not a data URL"),
        ("file:///etc/passwd", "not a data URL"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,@@@", "base64 data is invalid"),
        ("data:image/png;base64,AAAA", "not an image"),
        ("data:image/png,AAAA", "not an image"),
        (RED[:-40], "damaged or truncated"),
        (damaged_avif(), "damaged or truncated|not an image"),
        # Pillow would run this program with Ghostscript.
        (image_url("red", kind="EPS"), "PNG, JPEG, .* format"),
    ],
)
def test_unusable_images_are_rejected(url: str, message: str, siglip: EmbeddingModel) -> None:
    with pytest.raises(InvalidRequestError, match=message) as error:
        embed(siglip, "", images=(url,))
    assert (error.value.param, error.value.code) == ("image_url", "invalid_image")


def test_an_image_with_too_many_pixels_is_rejected(siglip: EmbeddingModel) -> None:
    with pytest.raises(InvalidRequestError, match=r"10000x9000.*80000000") as error:
        embed(siglip, "", images=(data_url(png_header(10_000, 9_000)),))
    assert (error.value.status, error.value.code) == (413, "image_too_large")


@pytest.mark.parametrize("name", [name for name, odd in EDGE_CASE_IMAGES.items() if odd.error is None])
def test_an_unusual_image_has_the_vector_of_its_displayed_pixels(siglip: EmbeddingModel, name: str) -> None:
    odd = EDGE_CASE_IMAGES[name]
    with Image.open(io.BytesIO(odd.file)) as image:
        displayed = on_white(ImageOps.exif_transpose(image)) if name == "EXIF orientation" else None
    plain = displayed or Image.new("RGB", odd.size, odd.pixel)
    vector, expected, other = embed(
        siglip, "", "", "", images=(data_url(odd.file), data_url(encoded(plain)), image_url("black", odd.size))
    )
    np.testing.assert_allclose(vector, expected, atol=0.02)
    assert np.abs(vector - other).max() > 0.05


def test_closing_a_model_ends_its_decoder_processes(siglip_folder: Path) -> None:
    model = load(siglip_folder)
    before = {child.pid for child in psutil.Process().children()}
    embed(model, "", images=(RED,))
    started = [child for child in psutil.Process().children() if child.pid not in before]
    assert started
    model.close()
    assert not any(child.is_running() for child in started)
