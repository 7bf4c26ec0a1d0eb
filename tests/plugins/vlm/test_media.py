"""Images and audio clips of a conversation: extraction, loading in the background, and digests."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host_media.audio import FORMATS
from mlx_host_media.fetcher import Fetcher, FetchLimits
from mlx_host_vlm.media import MediaLoader, Part, find_parts
from PIL.Image import Image

from tests.plugins.lm.driver import result
from tests.support.media import data_url, encoded, image_url, noise, tone
from tests.support.speech import FORMATS as AUDIO_SUFFIXES
from tests.support.speech import sample


class TestParts:
    def test_all_are_found_in_order(self) -> None:
        clip = {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}}
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Look."},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u", "detail": "low"}}, clip]},
            {"role": "assistant", "content": None},
            {"role": "tool", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": "v"}]},
        ]
        assert find_parts(messages) == [
            Part("image", "messages[1].content[0]", "u", low_detail=True),
            Part("audio", "messages[1].content[1]", "AA"),
            Part("image", "messages[3].content[1]", "v"),
        ]

    @pytest.mark.parametrize(
        ("part", "message"),
        [
            ({"type": "image_url"}, "image_url must be"),
            ({"type": "image_url", "image_url": {"file_id": "f"}}, "image_url must be"),
            (
                {"type": "image_url", "image_url": {"url": "u", "detail": "fine"}},
                "detail is 'fine'; supported: auto, low, high",
            ),
            ({"type": "image_url", "image_url": {"url": "u", "detail": ["low"]}}, "detail is "),
            ({"type": "input_audio", "input_audio": "AA"}, "input_audio must be"),
            ({"type": "input_audio", "input_audio": {"data": "AA"}}, "format is None; supported: wav, mp3"),
            (
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "mid"}},
                "format is 'mid'; supported: wav, mp3",
            ),
        ],
    )
    def test_a_malformed_part_is_located(self, part: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidRequestError, match=rf"messages\[0\].content\[0\].*{message}"):
            find_parts([{"role": "user", "content": [part]}])


@pytest.fixture
def loader() -> Iterator[MediaLoader]:
    loader = MediaLoader(lambda: 0.01, None, max_pixels=1_000_000, resize=True, sample_rate=16_000, max_seconds=30)
    yield loader
    loader.close()


class BlockedFetcher(Fetcher):
    """A fetcher that blocks until `unblocked` is set."""

    def __init__(self) -> None:
        super().__init__(FetchLimits())
        self.unblocked = threading.Event()

    def fetch(self, url: str) -> bytes:
        assert self.unblocked.wait(30)
        return encoded(noise(1))


class TestLoader:
    def test_digests_identify_files(self, loader: MediaLoader) -> None:
        parts = [Part("image", "a", image_url(seed)) for seed in (1, 2, 1)]
        first, second, again = result(loader.load(parts))
        assert first.digest == again.digest != second.digest

    def test_low_detail_changes_the_digest(self, loader: MediaLoader) -> None:
        url = data_url(encoded(noise(1, (800, 800))))
        whole, small = result(loader.load([Part("image", "a", url), Part("image", "b", url, low_detail=True)]))
        assert isinstance(whole.content, Image)
        assert isinstance(small.content, Image)
        assert (whole.content.size, small.content.size) == ((800, 800), (512, 512))
        assert whole.digest != small.digest

    def test_downloads_do_not_delay_images_in_the_request(self) -> None:
        fetcher = BlockedFetcher()
        loader = MediaLoader(lambda: 0.01, fetcher, max_pixels=10_000, resize=True, sample_rate=16_000, max_seconds=30)
        downloads = [loader.load([Part("image", "a", "http://slow.example/cat.png")]) for _ in range(20)]
        for each in downloads:
            next(each)
        (inline,) = result(loader.load([Part("image", "b", image_url(1))]))
        fetcher.unblocked.set()
        assert [result(each)[0].digest for each in downloads] == [inline.digest] * 20
        loader.close()

    def test_the_pixels_of_one_request_are_limited_in_total(
        self, loader: MediaLoader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mlx_host_vlm.media.loader.MAX_TOTAL_PIXELS", 2 * 84 * 84)
        parts = [Part("image", f"[{number}]", image_url(1)) for number in range(3)]
        assert len(result(loader.load(parts[:2]))) == 2
        with pytest.raises(InvalidRequestError, match=r"^\[2\]: .*21168") as error:
            result(loader.load(parts))
        assert (error.value.status, error.value.code) == (413, "image_too_large")

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("http://example.org/cat.png", "start the server with --allow-remote-media"),
            ("file:///etc/passwd", "not a data URL"),
            ("data:image/png;base64,", "empty"),
            (data_url(encoded(noise(1))[:-40]), "damaged or truncated"),
            (data_url(b"\x89PNG\r\n\x1a\n" + b"\xff" * 60), "not an image|damaged"),
        ],
    )
    def test_an_error_locates_the_part(self, loader: MediaLoader, source: str, message: str) -> None:
        with pytest.raises(InvalidRequestError, match=f"^here: .*({message})") as error:
            result(loader.load([Part("image", "here", source)]))
        assert error.value.param == "messages"


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_audio_in_every_format(loader: MediaLoader, suffix: str) -> None:
    source = base64.b64encode(sample(f"capital.{suffix}")).decode()
    (medium,) = result(loader.load([Part("audio", "here", source)]))
    assert isinstance(medium.content, np.ndarray)
    assert medium.content.dtype == np.float32
    assert len(medium.content) / 16_000 == pytest.approx(3.04, abs=0.1)
    assert 0.1 < np.abs(medium.content).max() <= 1
    assert suffix in FORMATS


def test_base64_audio(loader: MediaLoader) -> None:
    file = tone(300.0)
    (medium,) = result(loader.load([Part("audio", "here", base64.b64encode(file).decode())]))
    assert isinstance(medium.content, np.ndarray)
    assert len(medium.content) == 6400
