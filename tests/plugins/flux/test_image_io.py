"""Uploads are decoded or rejected, and results encoded."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import pytest
from mlx_host.errors import InvalidRequestError, RequestTooLargeError
from mlx_host_flux.image_io import ImageReader, encode
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


def masked(reader: ImageReader, mask: Image.Image, size: tuple[int, int]) -> list[Any]:
    """The first two pixels of a mask as the model gets it."""
    image = finish(reader.read_mask(encoded(mask), size))
    assert (image.mode, image.size) == ("RGB", size)
    return [image.getpixel((x, 0)) for x in (0, 1)]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(reader: ImageReader, format: str) -> None:
    image = finish(reader.read(encoded(noise(), format), "image", alpha=False))
    assert (image.mode, image.size) == ("RGB", (24, 16))


@pytest.mark.parametrize("file", [b"", b"garbage", b"<svg/>", encoded(noise())[:60], encoded(noise(), "PPM")])
def test_other_files_are_rejected(reader: ImageReader, file: bytes) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        finish(reader.read(file, "mask", alpha=False))
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (400, "mask", "invalid_image")


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_an_image_with_too_many_pixels_is_rejected_by_its_header(reader: ImageReader, side: int) -> None:
    with pytest.raises(RequestTooLargeError, match="more than the limit of 50000000") as refusal:
        finish(reader.read(png_header(side, side), "image", alpha=False))
    assert (refusal.value.status, refusal.value.code) == (413, "image_too_large")


def test_a_file_that_is_too_large_is_rejected(reader: ImageReader) -> None:
    with pytest.raises(
        RequestTooLargeError, match=r"the file has 2.0 MB, which is more than the limit of 1 MB \(--max-image-mb\)"
    ):
        finish(reader.read(b"x" * 2_000_000, "image", alpha=False))


def test_transparency_is_kept_for_pipelines_that_read_it(reader: ImageReader) -> None:
    file = encoded(Image.new("RGBA", (8, 8), (*RED, 0)))
    assert finish(reader.read(file, "image", alpha=True)).to_pil().getpixel((4, 4)) == (*RED, 0)
    assert finish(reader.read(file, "image", alpha=False)).to_pil().getpixel((4, 4)) == (255, 255, 255)


def test_a_mask_is_white_where_it_is_transparent(reader: ImageReader) -> None:
    mask = Image.new("RGBA", (4, 2), (*GREEN, 255))
    mask.putpixel((1, 0), (*GREEN, 0))
    assert masked(reader, mask, (4, 2)) == [(0, 0, 0), (255, 255, 255)]


def test_a_mask_without_transparency_is_used_as_it_is(reader: ImageReader) -> None:
    mask = Image.new("L", (4, 2))
    mask.putpixel((1, 0), 255)
    assert masked(reader, mask, (4, 2)) == [(0, 0, 0), (255, 255, 255)]


def test_a_mask_must_have_the_size_of_its_image(reader: ImageReader) -> None:
    with pytest.raises(InvalidRequestError, match="the mask has 4x2 pixels, the image 8x8"):
        finish(reader.read_mask(encoded(Image.new("L", (4, 2))), (8, 8)))


def test_a_large_mask_is_scaled_down_with_its_image(reader: ImageReader) -> None:
    image = finish(reader.read(encoded(noise(400, 200)), "image", alpha=False))
    assert (image.size, image.original_size) == ((200, 100), (400, 200))
    mask = finish(reader.read_mask(encoded(Image.new("L", (400, 200))), image.original_size))
    assert mask.size == image.size


def test_the_same_image_gives_the_same_file() -> None:
    for format, kind in (("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")):
        file = encode(noise(), format, 90)  # type: ignore[arg-type]  # a Literal in a loop
        assert file == encode(noise(), format, 90)  # type: ignore[arg-type]
        assert Image.open(io.BytesIO(file)).format == kind
    assert len(encode(noise(), "jpeg", 10)) < len(encode(noise(), "jpeg", 95))


def test_transparency_is_white_in_a_jpeg() -> None:
    file = encode(Image.new("RGBA", (8, 8)), "jpeg", 100)
    assert Image.open(io.BytesIO(file)).convert("RGB").getpixel((4, 4)) == (255, 255, 255)
    assert Image.open(io.BytesIO(encode(Image.new("RGBA", (8, 8)), "png", 100))).mode == "RGBA"
