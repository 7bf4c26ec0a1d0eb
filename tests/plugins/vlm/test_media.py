"""Pictures and sounds are found in a conversation, loaded beside the model, and told apart."""

from __future__ import annotations

import base64
import threading
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host.errors import InvalidRequest
from mlx_host_vlm.media import Fetcher, Limits, Loader, Part, find_parts
from mlx_host_vlm.media.aside import Aside
from mlx_host_vlm.media.audio import read_audio
from mlx_host_vlm.media.data_url import read_base64, read_data_url
from mlx_host_vlm.media.unusable import Unusable
from PIL.Image import Image

from tests.plugins.lm.driver import result
from tests.support.media import data_url, encoded, noise, picture, tone


class TestDataUrls:
    def test_base64_with_space_and_without_padding(self) -> None:
        assert read_data_url("data:image/png;base64,aGVs\nbG8") == b"hello"
        assert read_data_url("data:,a%20b") == b"a b"
        assert read_data_url("DATA:image/png;charset=x;BASE64,aGVsbG8=") == b"hello"

    def test_the_alphabet_for_urls(self) -> None:
        assert read_base64("-_-_") == read_base64("+/+/")

    @pytest.mark.parametrize("url", ["data:image/png;base64", "data:;base64,a", "data:;base64,ä", "data:;base64,!!!!"])
    def test_what_is_broken_is_refused(self, url: str) -> None:
        with pytest.raises(Unusable):
            read_data_url(url)


class TestParts:
    def test_all_are_found_in_order(self) -> None:
        sound = {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}}
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Look."},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u", "detail": "low"}}, sound]},
            {"role": "assistant", "content": None},
            {"role": "tool", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": "v"}]},
        ]
        assert find_parts(messages) == [
            Part("image", "messages[1].content[0]", "u", small=True),
            Part("audio", "messages[1].content[1]", "AA"),
            Part("image", "messages[3].content[1]", "v"),
        ]

    @pytest.mark.parametrize(
        ("part", "says"),
        [
            ({"type": "image_url"}, "image_url must be"),
            ({"type": "image_url", "image_url": {"file_id": "f"}}, "image_url must be"),
            ({"type": "image_url", "image_url": {"url": "u", "detail": "fine"}}, "detail is 'fine'; auto, low, high"),
            ({"type": "image_url", "image_url": {"url": "u", "detail": ["low"]}}, "detail is "),
            ({"type": "input_audio", "input_audio": "AA"}, "input_audio must be"),
            ({"type": "input_audio", "input_audio": {"data": "AA"}}, "wav and mp3 are taken"),
            ({"type": "input_audio", "input_audio": {"data": "AA", "format": "flac"}}, "wav and mp3 are taken"),
        ],
    )
    def test_what_is_malformed_is_named(self, part: dict[str, Any], says: str) -> None:
        with pytest.raises(InvalidRequest, match=rf"messages\[0\].content\[0\].*{says}"):
            find_parts([{"role": "user", "content": [part]}])


class TestAside:
    def test_it_gives_way_until_the_work_is_done(self) -> None:
        may_end = threading.Event()

        def work() -> int:
            assert may_end.wait(30)
            return 7

        steps = Aside(lambda: 0.0, at_once=1).run(work)
        assert [next(steps), next(steps)] == [None, None]
        may_end.set()
        assert result(steps) == 7

    def test_it_raises_what_the_work_raises(self) -> None:
        with pytest.raises(ZeroDivisionError):
            result(Aside(lambda: 0.01, at_once=1).run(lambda: 1 // 0))

    def test_what_nobody_awaits_is_not_begun(self) -> None:
        may_end, begun = threading.Event(), threading.Event()
        aside = Aside(lambda: 0.0, at_once=2)
        busy = [aside.run(lambda: may_end.wait(30)) for _ in range(2)]
        for steps in busy:
            next(steps)
        late = aside.run(begun.set)
        next(late)
        late.close()
        may_end.set()
        for steps in busy:
            assert result(steps)
        assert not begun.is_set()


def loader(most_pixels: int = 1_000_000, *, resize: bool = True) -> Loader:
    return Loader(lambda: 0.01, None, most_pixels=most_pixels, resize=resize, rate=16000, most_seconds=30)


class Slow(Fetcher):
    """Fetches nothing until it may."""

    def __init__(self) -> None:
        super().__init__(Limits())
        self.may_end = threading.Event()

    def fetch(self, url: str) -> bytes:
        assert self.may_end.wait(30)
        return encoded(noise(1))


class TestLoader:
    def test_the_same_file_has_the_same_digest_and_no_other_has(self) -> None:
        parts = [Part("image", "a", picture(seed)) for seed in (1, 2, 1)]
        first, second, again = result(loader().load(parts))
        assert first.digest == again.digest != second.digest

    def test_the_same_file_seen_smaller_is_another_picture(self) -> None:
        url = data_url(encoded(noise(1, (800, 800))))
        whole, small = result(loader().load([Part("image", "a", url), Part("image", "b", url, small=True)]))
        assert isinstance(whole.content, Image)
        assert isinstance(small.content, Image)
        assert (whole.content.size, small.content.size) == ((800, 800), (512, 512))
        assert whole.digest != small.digest

    def test_downloads_do_not_hold_up_pictures_that_are_there(self) -> None:
        slow = Slow()
        loader = Loader(lambda: 0.01, slow, most_pixels=10_000, resize=True, rate=16000, most_seconds=30)
        downloads = [loader.load([Part("image", "a", "http://slow.example/cat.png")]) for _ in range(20)]
        for each in downloads:
            next(each)
        (here,) = result(loader.load([Part("image", "b", picture(1))]))
        slow.may_end.set()
        assert [result(each)[0].digest for each in downloads] == [here.digest] * 20

    def test_pictures_of_one_request_fit_into_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mlx_host_vlm.media.loader.MOST_PIXELS_TOGETHER", 2 * 84 * 84)
        parts = [Part("image", f"[{number}]", picture(1)) for number in range(3)]
        assert len(result(loader().load(parts[:2]))) == 2
        with pytest.raises(InvalidRequest, match=r"^\[2\]: the pictures up to it have 21168 pixels together"):
            result(loader().load(parts))

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            ("http://example.org/cat.png", "start the server with --allow-remote-media"),
            ("file:///etc/passwd", "not fetched"),
            ("data:image/png;base64,", "empty"),
            (data_url(encoded(noise(1))[:-40]), "damaged or ends early"),
            (data_url(b"\x89PNG\r\n\x1a\n" + b"\xff" * 60), "no image|damaged"),
        ],
    )
    def test_a_refusal_names_the_place(self, source: str, says: str) -> None:
        with pytest.raises(InvalidRequest, match=f"^here: .*({says})") as refusal:
            result(loader().load([Part("image", "here", source)]))
        assert refusal.value.param == "messages"

    @given(st.integers(0, 2**32), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]))
    def test_no_damage_does_more_than_refuse(self, seed: int, form: str) -> None:
        file = bytearray(encoded(noise(1, (24, 24)), form))
        random = np.random.default_rng(seed)
        for position in random.integers(0, len(file), 6):
            file[position] = random.integers(0, 256)
        try:
            (medium,) = result(loader().load([Part("image", "here", data_url(bytes(file)))]))
        except InvalidRequest:
            return
        assert isinstance(medium.content, Image)
        assert medium.content.mode == "RGB"


def mp3(samples: np.ndarray[Any, np.dtype[np.int16]], rate: int) -> bytes:
    import io

    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16p", layout="mono")
        frame.rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


class TestAudio:
    def test_a_tone_keeps_its_pitch_at_another_rate(self) -> None:
        samples = read_audio(tone(500.0, seconds=1.0, rate=44100), 16000)
        assert abs(len(samples) - 16000) <= 2
        assert np.argmax(np.abs(np.fft.rfft(samples[:16000]))) == pytest.approx(500, abs=1)
        assert 0.5 < np.abs(samples).max() < 0.7

    def test_mp3_is_read(self) -> None:
        wave = (np.sin(np.arange(16000) * (2 * np.pi * 500 / 16000)) * 20000).astype(np.int16)
        samples = read_audio(mp3(wave, 16000), 16000)
        assert len(samples) == pytest.approx(16000, abs=3000)
        spectrum = np.abs(np.fft.rfft(samples))
        assert np.argmax(spectrum) * 16000 / len(samples) == pytest.approx(500, abs=3)

    @pytest.mark.parametrize(
        "file", [b"hello", b"RIFF", tone(500.0)[:60], b"ID3" + b"\0" * 100, b"\xff\xfb" + b"\0" * 9]
    )
    def test_what_is_no_sound_is_refused(self, file: bytes) -> None:
        with pytest.raises(Unusable):
            read_audio(file, 16000)

    def test_a_file_that_ends_early_is_refused(self) -> None:
        with pytest.raises(Unusable, match="ends early"):
            read_audio(tone(500.0, seconds=4.0)[:40_000], 16000)

    def test_a_long_file_is_refused_before_it_is_decoded(self) -> None:
        # Eight-bit samples, one a second: what is an hour long has 3,644 bytes.
        header = b"RIFF" + (3636).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
        form = b"\1\0\1\0" + (1).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\1\0\x08\0"
        file = header + form + b"data" + (3600).to_bytes(4, "little") + b"\x80" * 3600
        with pytest.raises(Unusable, match="and this model hears 600 at once"):
            read_audio(file, 16000)


def test_base64_of_a_sound_is_what_the_client_sent() -> None:
    file = tone(300.0)
    (medium,) = result(loader().load([Part("audio", "here", base64.b64encode(file).decode())]))
    assert isinstance(medium.content, np.ndarray)
    assert len(medium.content) == 6400
