"""Uploaded images are decoded or rejected, and generated images encoded."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import pytest
from mlx_host.errors import InvalidRequestError, RequestTooLargeError
from mlx_host_flux.image_io import ImageFormat, ImageReader, encode
from PIL import Image

from tests.support.edge_case_images import png_header
from tests.support.media import encoded, finish

RED, GREEN = (255, 0, 0), (0, 128, 0)


def noise(width: int = 24, height: int = 16) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(0).randbytes(3 * width * height))


@pytest.fixture(scope="module")
def reader() -> Iterator[ImageReader]:
    reader = ImageReader(max_megabytes=1, scale_to=20_000)
    yield reader
    reader.close()


def first_pixels(reader: ImageReader, mask: Image.Image, size: tuple[int, int]) -> list[Any]:
    """Decode a mask and return its first two pixels."""
    image = finish(reader.read_mask(encoded(mask), size))
    assert (image.mode, image.size) == ("RGB", size)
    return [image.getpixel((x, 0)) for x in (0, 1)]


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_are_decoded(reader: ImageReader, image_format: str) -> None:
    image = finish(reader.read(encoded(noise(), image_format), "image", alpha=False))
    assert (image.mode, image.size) == ("RGB", (24, 16))


@pytest.mark.parametrize("file", [b"", b"garbage", b"<svg/>", encoded(noise())[:60], encoded(noise(), "PPM")])
def test_other_files_are_rejected(reader: ImageReader, file: bytes) -> None:
    with pytest.raises(InvalidRequestError) as error:
        finish(reader.read(file, "mask", alpha=False))
    assert (error.value.status, error.value.param, error.value.code) == (400, "mask", "invalid_image")


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_an_image_with_too_many_pixels_is_rejected_by_its_header(reader: ImageReader, side: int) -> None:
    with pytest.raises(RequestTooLargeError, match="50000000") as error:
        finish(reader.read(png_header(side, side), "image", alpha=False))
    assert (error.value.status, error.value.code) == (413, "image_too_large")


def test_a_file_that_is_too_large_is_rejected(reader: ImageReader) -> None:
    with pytest.raises(RequestTooLargeError, match=r"2\.0 MB.* 1 MB \(--max-image-mb\)"):
        finish(reader.read(b"x" * 2_000_000, "image", alpha=False))


def test_transparency_is_kept_for_pipelines_that_read_it(reader: ImageReader) -> None:
    file = encoded(Image.new("RGBA", (8, 8), (*RED, 0)))
    assert finish(reader.read(file, "image", alpha=True)).to_pil().getpixel((4, 4)) == (*RED, 0)
    assert finish(reader.read(file, "image", alpha=False)).to_pil().getpixel((4, 4)) == (255, 255, 255)


def test_transparent_areas_of_a_mask_become_white(reader: ImageReader) -> None:
    mask = Image.new("RGBA", (4, 2), (*GREEN, 255))
    mask.putpixel((1, 0), (*GREEN, 0))
    assert first_pixels(reader, mask, (4, 2)) == [(0, 0, 0), (255, 255, 255)]


def test_a_mask_without_transparency_is_not_changed(reader: ImageReader) -> None:
    mask = Image.new("L", (4, 2))
    mask.putpixel((1, 0), 255)
    assert first_pixels(reader, mask, (4, 2)) == [(0, 0, 0), (255, 255, 255)]


def test_a_mask_must_have_the_size_of_its_image(reader: ImageReader) -> None:
    with pytest.raises(InvalidRequestError, match=r"4x2.*8x8"):
        finish(reader.read_mask(encoded(Image.new("L", (4, 2))), (8, 8)))


def test_a_large_mask_is_scaled_down_with_its_image(reader: ImageReader) -> None:
    image = finish(reader.read(encoded(noise(400, 200)), "image", alpha=False))
    assert (image.size, image.original_size) == ((200, 100), (400, 200))
    mask = finish(reader.read_mask(encoded(Image.new("L", (400, 200))), image.original_size))
    assert mask.size == image.size


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_encoding_is_deterministic(image_format: ImageFormat) -> None:
    file = encode(noise(), image_format, 90)
    assert file == encode(noise(), image_format, 90)
    assert Image.open(io.BytesIO(file)).format == image_format.upper()


def test_compression_sets_the_quality_of_a_jpeg() -> None:
    assert len(encode(noise(), "jpeg", 10)) < len(encode(noise(), "jpeg", 95))


def test_a_jpeg_gets_a_white_background() -> None:
    file = encode(Image.new("RGBA", (8, 8)), "jpeg", 100)
    assert Image.open(io.BytesIO(file)).convert("RGB").getpixel((4, 4)) == (255, 255, 255)
    assert Image.open(io.BytesIO(encode(Image.new("RGBA", (8, 8)), "png", 100))).mode == "RGBA"
