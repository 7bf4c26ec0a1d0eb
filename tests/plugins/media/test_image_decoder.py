"""Images are decoded, or rejected with a reason; test_odd_images.py has unusual images."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host_media.errors import MediaError
from mlx_host_media.image_decoder import decode_image
from mlx_host_media.images import ImageLimits, fit_size
from PIL import Image, ImageOps

from tests.support.edge_case_images import png_header
from tests.support.media import encoded, noise

SCALE_TO = 1_000_000
MAX_PIXELS = ImageLimits().max_pixels


def decode(file: bytes, scale_to: int = SCALE_TO, max_pixels: int = MAX_PIXELS) -> Image.Image:
    return decode_image(file, ImageLimits(max_pixels, scale_to)).to_pil()


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats(image_format: str) -> None:
    original = noise(1)
    assert decode(encoded(original, image_format)).tobytes() == original.tobytes()


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats(image_format: str) -> None:
    original = noise(1)
    difference = np.abs(
        np.asarray(decode(encoded(original, image_format, quality=95)), int) - np.asarray(original, int)
    )
    assert difference.mean() < 8


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_every_exif_orientation(image_format: str) -> None:
    original = noise(1, (40, 20))
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if image_format == "WEBP" else {}
        with Image.open(io.BytesIO(encoded(original, image_format, exif=exif, **options))) as image:
            expected = ImageOps.exif_transpose(image)
        assert decode(encoded(original, image_format, exif=exif, **options)).tobytes() == expected.tobytes()
    assert expected.size == (40, 20)


def test_exif_orientation_is_applied_to_a_scaled_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    decoded = decode(encoded(noise(1, (400, 200)), "JPEG", exif=exif, quality=95), scale_to=20_000)
    expected = noise(1, (200, 100)).transpose(Image.Transpose.ROTATE_270)
    assert decoded.size == (100, 200)
    assert np.abs(np.asarray(decoded, int) - np.asarray(expected, int)).mean() < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_is_ignored() -> None:
    file = encoded(noise(1), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f garbage")
    assert decode(file).size == (84, 84)


@pytest.mark.parametrize("scale_to", [SCALE_TO, 16], ids=["original size", "scaled down"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGB"])
def test_transparency_becomes_white(mode: str, scale_to: int) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    match mode:
        case "PA":
            file = encoded(image, "GIF")
        case "RGB":
            file = encoded(image.convert("RGB"), transparency=(0, 0, 0))
        case _:
            file = encoded(image.convert(mode))
    decoded = decode(file, scale_to)
    width = decoded.width
    assert pixel(decoded, width - 1, 2) == (255, 255, 255)
    assert pixel(decoded, 0, 2) == pytest.approx(pixel(decode(file), 0, 2), abs=2)
    assert pixel(decoded, 0, 2) != (255, 255, 255)


def test_palettes() -> None:
    original = noise(1).quantize(16)
    assert decode(encoded(original)).tobytes() == original.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes_become_rgb(mode: str) -> None:
    file = encoded(noise(1).convert(mode), "TIFF")
    assert decode(file).mode == "RGB"


def test_16_bit_values_are_scaled_not_clipped() -> None:
    sixteen_bit = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert pixel(decode(encoded(sixteen_bit)), 0, 0) == (127, 127, 127)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation(image_format: str) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if image_format == "WEBP" else {}
    decoded = decode(encoded(first, image_format, save_all=True, append_images=[second], **options))
    assert pixel(decoded, 4, 4) == (255, 0, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_images_are_rejected(image_format: str) -> None:
    file = encoded(noise(1), image_format)
    for length in (len(file) // 2, 20):
        with pytest.raises(MediaError):
            decode(file[:length])


@pytest.mark.parametrize("file", [b"hello", b"\x00" * 100, b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_other_files_are_rejected(file: bytes) -> None:
    with pytest.raises(MediaError, match="PNG, JPEG, WEBP"):
        decode(file)


@pytest.mark.parametrize("size", [(65_500, 65_500), (20_000, 10_000), (12_000, 9_000)])
def test_an_image_with_too_many_pixels_is_rejected_by_its_header(size: tuple[int, int]) -> None:
    assert size[0] * size[1] > MAX_PIXELS
    with pytest.raises(MediaError, match=f"{MAX_PIXELS}"):
        decode(png_header(*size))


def test_a_gif_frame_larger_than_its_image_is_rejected() -> None:
    screen, frame = struct.pack("<HH", 10, 10), struct.pack("<HH", 11_000, 10_000)
    file = b"GIF89a" + screen + b"\xf0\0\0" + bytes(6) + b"," + bytes(4) + frame + b"\0\x02\x02\x44\x01\0;"
    with pytest.raises(MediaError, match="11000x10000 pixels"):
        decode(file)


def test_the_pixel_limit_is_inclusive() -> None:
    with pytest.raises(MediaError, match="truncated"):
        decode(png_header(9_900, 9_900))


def test_a_large_image_is_scaled_down() -> None:
    decoded = decode(encoded(noise(1, (400, 200))), scale_to=20_000)
    assert decoded.size == (200, 100)


def test_a_large_jpeg_is_decoded_at_a_reduced_size() -> None:
    decoded = decode(encoded(noise(1, (1600, 800)), "JPEG"), scale_to=20_000)
    assert decoded.size == (200, 100)


def test_an_image_above_the_pixel_limit_is_rejected() -> None:
    with pytest.raises(MediaError, match=r"400x200.* 20000 "):
        decode(encoded(noise(1, (400, 200))), max_pixels=20_000)


@pytest.mark.parametrize(
    ("size", "max_pixels", "expected"),
    [((10, 10), 100, (10, 10)), ((10, 10), 25, (5, 5)), ((100_000, 1), 10, (1000, 1)), ((1, 1), 1, (1, 1))],
)
def test_fit_size_keeps_at_least_one_pixel(size: tuple[int, int], max_pixels: int, expected: tuple[int, int]) -> None:
    assert fit_size(size, max_pixels) == expected


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF"])
def test_the_original_size_has_the_exif_orientation_applied(image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(encoded(noise(1, (400, 200)), image_format, exif=exif), ImageLimits(scale_to=20_000))
    assert (image.size, image.original_size) == ((100, 200), (200, 400))


@given(st.integers(0, 2**32), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), st.booleans())
def test_damage_is_rejected_or_harmless(seed: int, image_format: str, alpha: bool) -> None:
    file = bytearray(encoded(noise(1, (24, 24)), image_format))
    random = np.random.default_rng(seed)
    for position in random.integers(0, len(file), 6):
        file[position] = random.integers(0, 256)
    try:
        image = decode_image(bytes(file), ImageLimits(scale_to=SCALE_TO), alpha=alpha)
    except MediaError as error:
        assert error.code in ("invalid_image", "image_too_large")  # noqa: PT017  a damaged size can exceed the limit
        return
    assert len(image.pixels) == len(image.mode) * image.size[0] * image.size[1]
