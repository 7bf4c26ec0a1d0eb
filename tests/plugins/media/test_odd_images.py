"""One table of odd images and data URLs, for each backend that accepts images: all decode them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host_embeddings.images import ImageLoader
from mlx_host_flux.image_io import ImageReader
from mlx_host_vlm.media import MediaLoader, Part
from PIL.Image import Image

from tests.support.media import data_url, finish
from tests.support.odd_images import BROKEN_DATA_URLS, DATA_URLS, ODD_IMAGES, OddImage

Decode = Callable[[bytes], Image]
DecodeUrl = Callable[[str], Image]


@pytest.fixture(scope="module")
def vlm() -> Iterator[DecodeUrl]:
    limits: dict[str, Any] = {"max_pixels": 1_000_000, "resize": True, "sample_rate": 16_000, "max_seconds": 30}
    loader = MediaLoader(lambda: 0.02, None, **limits)

    def decode(url: str) -> Image:
        (medium,) = finish(loader.load([Part("image", "here", url)]))
        assert isinstance(medium.content, Image)
        return medium.content

    yield decode
    loader.close()


@pytest.fixture(scope="module")
def embeddings() -> Iterator[DecodeUrl]:
    loader = ImageLoader()
    yield lambda url: finish(loader.load(url))
    loader.close()


@pytest.fixture(scope="module")
def flux() -> Iterator[ImageReader]:
    reader = ImageReader(max_megabytes=10, scale_to=1_000_000)
    yield reader
    reader.close()


@pytest.fixture(params=["vlm", "embeddings"])
def decode_url(request: pytest.FixtureRequest) -> DecodeUrl:
    decode: DecodeUrl = request.getfixturevalue(request.param)
    return decode


@pytest.fixture(params=["vlm", "embeddings", "flux"])
def decode(request: pytest.FixtureRequest) -> Decode:
    backend = request.getfixturevalue(request.param)
    if isinstance(backend, ImageReader):
        return lambda file: finish(backend.read(file, "image", alpha=False)).to_pil()
    return lambda file: backend(data_url(file))


def check(decode: Decode, odd: OddImage, expected: tuple[int, ...]) -> None:
    if odd.error is not None:
        with pytest.raises(InvalidRequestError) as error:
            decode(odd.file)
        assert error.value.code == odd.error
        assert error.value.status == (413 if odd.error == "image_too_large" else 400)
        return
    image = decode(odd.file)
    assert image.mode == ("RGB" if len(expected) == 3 else "RGBA")
    assert image.size == odd.size
    last = image.getpixel((image.width - 1, image.height - 1))
    assert last == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_all_backends_decode_an_image_alike(decode: Decode, name: str) -> None:
    check(decode, ODD_IMAGES[name], ODD_IMAGES[name].pixel)


@pytest.mark.parametrize("name", ODD_IMAGES)
def test_a_pipeline_that_reads_alpha_gets_it(flux: ImageReader, name: str) -> None:
    odd = ODD_IMAGES[name]
    check(lambda file: finish(flux.read(file, "image", alpha=True)).to_pil(), odd, odd.alpha or odd.pixel)


@pytest.mark.parametrize("spelling", DATA_URLS)
def test_data_urls_in_every_spelling(decode_url: DecodeUrl, spelling: str) -> None:
    assert decode_url(DATA_URLS[spelling]).tobytes() == decode_url(DATA_URLS["as usual"]).tobytes()


@pytest.mark.parametrize("name", BROKEN_DATA_URLS)
def test_invalid_data_urls(decode_url: DecodeUrl, name: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        decode_url(BROKEN_DATA_URLS[name])
    assert (error.value.status, error.value.code) == (400, "invalid_image")
