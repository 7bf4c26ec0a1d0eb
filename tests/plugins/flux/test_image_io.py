"""Files that clients send become plain pictures or a refusal, whatever is in them."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import pytest
from mlx_host.errors import InvalidRequest, TooLarge
from mlx_host_flux import pictures
from PIL import Image

RED, GREEN, BLUE = (255, 0, 0), (0, 128, 0), (0, 0, 255)


def encoded(image: Image.Image, format: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **more)
    return file.getvalue()


def noise(width: int = 24, height: int = 16) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(0).randbytes(3 * width * height))


def read(file: bytes) -> Image.Image:
    return pictures.read(file, "image", 10)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_formats(format: str) -> None:
    image = read(encoded(noise(), format))
    assert (image.mode, image.size) == ("RGB", (24, 16))


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_refused(format: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read as a PNG, JPEG or WebP image"):
        read(encoded(noise(), format))


@pytest.mark.parametrize("file", [b"", b"garbage", b"<svg/>", encoded(noise())[:60], b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_picture_is_refused(file: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read(file)
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (400, "image", "invalid_image")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_damage_is_refused_or_harmless(format: str) -> None:
    dice = random.Random(format)
    whole = encoded(noise(), format)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        cut = bytes(damaged[: dice.randint(1, len(damaged))]) if dice.random() < 0.3 else bytes(damaged)
        try:
            image = read(cut)
        except InvalidRequest:
            continue
        assert image.mode in ("RGB", "RGBA")


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_a_bomb_is_refused_before_it_goes_off(side: int) -> None:
    bomb = png(side, side, b"\0" * 10_000)
    assert len(bomb) < 200
    with pytest.raises(TooLarge, match=r"too many pixels.*; 50,000,000 are the most") as refusal:
        read(bomb)
    assert (refusal.value.status, refusal.value.code) == (413, "image_too_large")


def test_a_file_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge, match=r"the file has 1.0 MB; this model takes 0.5 MB \(--max-image-mb\)"):
        pictures.read(b"x" * 1_000_000, "image", 0.5)


def test_a_photograph_is_turned_upright() -> None:
    sideways = Image.new("RGB", (20, 10), BLUE)
    sideways.paste(RED, (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise by a quarter.
    upright = read(encoded(sideways, exif=exif))
    assert upright.size == (10, 20)
    assert upright.getpixel((5, 2)) == RED
    assert upright.getpixel((5, 17)) == BLUE


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_colours_become_red_green_and_blue(mode: str) -> None:
    image = Image.new("RGB", (8, 8), RED).convert(mode)
    format = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    assert read(encoded(image, format)).mode == "RGB"


def test_sixteen_bits_of_grey_keep_their_shades() -> None:
    wide = Image.new("I;16", (2, 1))
    wide.putpixel((0, 0), 0x8080)
    wide.putpixel((1, 0), 0xFFFF)
    image = read(encoded(wide))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(128, 128, 128), (255, 255, 255)]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_kept(mode: str) -> None:
    assert read(encoded(Image.new(mode, (8, 8)))).mode == "RGBA"
    palette = Image.new("P", (8, 8))
    assert read(encoded(palette, transparency=0)).mode == "RGBA"


def test_of_an_animation_the_first_picture_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    for format in ("PNG", "WEBP"):
        file = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        assert read(file).getpixel((4, 4)) == RED


def test_a_mask_is_white_where_it_is_transparent() -> None:
    mask = Image.new("RGBA", (4, 2), (*GREEN, 255))
    mask.putpixel((1, 0), (*GREEN, 0))
    read_back = pictures.read_mask(encoded(mask), (4, 2), 10)
    assert [read_back.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (255, 255, 255)]


def test_a_mask_without_transparency_is_taken_as_it_is() -> None:
    mask = Image.new("L", (4, 2))
    mask.putpixel((1, 0), 255)
    read_back = pictures.read_mask(encoded(mask), (4, 2), 10)
    assert [read_back.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0), (255, 255, 255)]


def test_a_mask_must_fit_its_image() -> None:
    with pytest.raises(InvalidRequest, match="The mask has 4x2 pixels, the image 8x8"):
        pictures.read_mask(encoded(Image.new("L", (4, 2))), (8, 8), 10)


def test_shrinking_keeps_the_shape() -> None:
    assert pictures.shrink(noise(400, 200), 20_000).size == (200, 100)
    small = noise()
    assert pictures.shrink(small, 20_000) is small
    assert pictures.shrunk((1, 10_000), 100) == (1, 1000)


def test_the_same_picture_gives_the_same_file() -> None:
    for format, kind in (("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")):
        file = pictures.write(noise(), format, 90)  # type: ignore[arg-type]  # a Literal in a loop
        assert file == pictures.write(noise(), format, 90)  # type: ignore[arg-type]
        assert Image.open(io.BytesIO(file)).format == kind
    assert len(pictures.write(noise(), "jpeg", 10)) < len(pictures.write(noise(), "jpeg", 95))


def test_what_is_transparent_is_white_as_a_jpeg() -> None:
    file = pictures.write(Image.new("RGBA", (8, 8)), "jpeg", 100)
    assert Image.open(io.BytesIO(file)).convert("RGB").getpixel((4, 4)) == (255, 255, 255)
    assert Image.open(io.BytesIO(pictures.write(Image.new("RGBA", (8, 8)), "png", 100))).mode == "RGBA"
