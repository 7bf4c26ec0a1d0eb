"""Pictures of every sort are decoded or refused with a reason; none hurts the process."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from mlx_host_vlm.media.images import MOST_DECODED_PIXELS, read_image, scale_down
from mlx_host_vlm.media.unusable import Unusable
from PIL import Image

from tests.support.media import encoded, noise

MOST = 1_000_000


def read(file: bytes, most: int = MOST, *, resize: bool = True) -> Image.Image:
    return read_image(file, most, resize=resize)


def png(width: int, height: int) -> bytes:
    """A PNG that says it has this size, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_formats_without_loss_give_the_picture(form: str) -> None:
    drawn = noise(1)
    assert read(encoded(drawn, form)).tobytes() == drawn.tobytes()


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_formats_with_loss_give_nearly_the_picture(form: str) -> None:
    drawn = noise(1)
    difference = np.abs(np.asarray(read(encoded(drawn, form, quality=95)), int) - np.asarray(drawn, int))
    assert difference.mean() < 8


def test_a_picture_is_turned_as_the_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn to the right
    drawn = noise(1, (40, 20))
    turned = read(encoded(drawn, "PNG", exif=exif))
    assert turned.size == (20, 40)
    assert turned.tobytes() == drawn.transpose(Image.Transpose.ROTATE_270).tobytes()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_note_about_the_camera_does_not_matter() -> None:
    file = encoded(noise(1), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f garbage")
    assert read(file).size == (84, 84)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    file = encoded(image, "GIF") if mode == "PA" else encoded(image.convert(mode))
    shown = read(file)
    assert pixel(shown, 6, 4) == (255, 255, 255)
    assert pixel(shown, 1, 4) != (255, 255, 255)


def test_a_palette_is_looked_up() -> None:
    drawn = noise(1).quantize(16)
    assert read(encoded(drawn)).tobytes() == drawn.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes_become_rgb(mode: str) -> None:
    file = encoded(noise(1).convert(mode), "TIFF")
    assert read(file).mode == "RGB"


def test_sixteen_bits_are_not_cut_off() -> None:
    deep = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert pixel(read(encoded(deep)), 0, 0) == (127, 127, 127)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_a_moving_picture_counts(form: str) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if form == "WEBP" else {}
    shown = read(encoded(first, form, save_all=True, append_images=[second], **options))
    assert pixel(shown, 4, 4) == (255, 0, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_picture_is_refused(form: str) -> None:
    file = encoded(noise(1), form)
    for length in (len(file) // 2, 20):
        with pytest.raises((Unusable, OSError, ValueError, SyntaxError)):
            read(file[:length])


@pytest.mark.parametrize(
    "file", [b"", b"hello", b"\x00" * 100, b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_picture_is_refused_by_naming_what_is(file: bytes) -> None:
    with pytest.raises(Unusable, match="PNG, JPEG, WEBP"):
        read(file)


@pytest.mark.parametrize("size", [(65_500, 65_500), (20_000, 10_000), (12_000, 9_000)])
def test_a_picture_that_unpacks_to_too_much_is_refused_by_its_header(size: tuple[int, int]) -> None:
    assert size[0] * size[1] > MOST_DECODED_PIXELS
    with pytest.raises(Unusable, match=f"{MOST_DECODED_PIXELS}"):
        read(png(*size))


def test_a_large_picture_is_scaled_down_and_keeps_its_shape() -> None:
    shown = read(encoded(noise(1, (400, 200))), most=20_000)
    assert shown.size == (200, 100)


def test_a_large_jpeg_is_decoded_small() -> None:
    shown = read(encoded(noise(1, (1600, 800)), "JPEG"), most=20_000)
    assert shown.size == (200, 100)


def test_a_large_picture_is_refused_where_resizing_is_off() -> None:
    with pytest.raises(Unusable, match="400 x 200 pixels, and 20000 are taken here"):
        read(encoded(noise(1, (400, 200))), most=20_000, resize=False)


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [((10, 10), 100, (10, 10)), ((10, 10), 25, (5, 5)), ((100_000, 1), 10, (1000, 1)), ((1, 1), 1, (1, 1))],
)
def test_scaling_down_keeps_at_least_a_pixel(size: tuple[int, int], most: int, expected: tuple[int, int]) -> None:
    assert scale_down(size, most) == expected


def test_a_file_is_closed_when_it_is_refused() -> None:
    file = io.BytesIO(encoded(noise(1)))
    read(file.getvalue())
    with pytest.raises(Unusable):
        read(png(65_500, 65_500))
