"""Pictures of every sort are decoded or refused with a reason; none hurts the process."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from mlx_host_vlm.media.images import MOST_DECODED_PIXELS, read_image, scale_down
from mlx_host_vlm.media.unusable import Unusable
from PIL import Image, ImageOps

from tests.support.media import encoded, noise

MOST = 1_000_000


def read(file: bytes, most: int = MOST, *, resize: bool = True) -> Image.Image:
    return read_image(file, most, resize=resize)


def png(width: int, height: int) -> bytes:
    """A PNG that says it has this size, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
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


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_the_camera_was_held(form: str) -> None:
    drawn = noise(1, (40, 20))
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if form == "WEBP" else {}
        with Image.open(io.BytesIO(encoded(drawn, form, exif=exif, **options))) as image:
            expected = ImageOps.exif_transpose(image)
        assert read(encoded(drawn, form, exif=exif, **options)).tobytes() == expected.tobytes()
    assert expected.size == (40, 20)


def test_a_large_picture_is_turned_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn to the right
    shown = read(encoded(noise(1, (400, 200)), "JPEG", exif=exif, quality=95), most=20_000)
    expected = noise(1, (200, 100)).transpose(Image.Transpose.ROTATE_270)
    assert shown.size == (100, 200)
    assert np.abs(np.asarray(shown, int) - np.asarray(expected, int)).mean() < 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_note_about_the_camera_does_not_matter() -> None:
    file = encoded(noise(1), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f garbage")
    assert read(file).size == (84, 84)


@pytest.mark.parametrize("most", [MOST, 16], ids=["as it is", "scaled down"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGB"])
def test_what_is_transparent_is_white(mode: str, most: int) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 4, 8))
    match mode:
        case "PA":
            file = encoded(image, "GIF")
        case "RGB":
            file = encoded(image.convert("RGB"), transparency=(0, 0, 0))
        case _:
            file = encoded(image.convert(mode))
    shown = read(file, most)
    width = shown.width
    assert pixel(shown, width - 1, 2) == (255, 255, 255)
    assert pixel(shown, 0, 2) == pytest.approx(pixel(read(file), 0, 2), abs=2)
    assert pixel(shown, 0, 2) != (255, 255, 255)


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


def test_a_frame_that_is_larger_than_its_picture_counts() -> None:
    screen, frame = struct.pack("<HH", 10, 10), struct.pack("<HH", 11_000, 10_000)
    file = b"GIF89a" + screen + b"\xf0\0\0" + bytes(6) + b"," + bytes(4) + frame + b"\0\x02\x02\x44\x01\0;"
    with pytest.raises(Unusable, match="11000 x 10000 pixels"):
        read(file)


def test_the_limit_is_where_it_is_said_to_be() -> None:
    with pytest.raises(OSError, match="truncated"):
        read(png(9_900, 9_900))


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
