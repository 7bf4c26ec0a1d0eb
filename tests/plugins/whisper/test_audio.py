"""What is read as audio and what is refused, and why."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from mlx_host.errors import InvalidRequest, TooLarge
from mlx_host_whisper.audio import SAMPLE_RATE, Samples, read_audio

from tests.support.speech import FORMATS, sample

ANY_LENGTH = 3600.0
# How far lossy coders may differ from the original, in the correlation of the sound.
LIKENESS = {"wav": 1.0, "flac": 1.0, "mp3": 0.95, "m4a": 0.95, "ogg": 0.9, "webm": 0.9}


def refusal(file: bytes) -> str:
    with pytest.raises(InvalidRequest) as refused:
        read_audio(file, ANY_LENGTH)
    assert refused.value.status == 400
    assert refused.value.param == "file"
    return refused.value.message


def wav(samples: Samples, rate: int = SAMPLE_RATE, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def tone(seconds: float, rate: int = SAMPLE_RATE) -> Samples:
    times = np.arange(round(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 440 * times) * 8000).astype(np.int16)


def likeness(one: Samples, other: Samples) -> float:
    """The best correlation of two sounds, one of which may be some milliseconds late."""
    length = min(len(one), len(other))
    spectra = np.fft.rfft(one[:length].astype(float), 2 * length), np.fft.rfft(other[:length].astype(float), 2 * length)
    product = np.fft.irfft(spectra[0] * np.conj(spectra[1]))
    return float(product.max() / (np.linalg.norm(one.astype(float)) * np.linalg.norm(other.astype(float))))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_sound(suffix: str) -> None:
    with wave.open(io.BytesIO(sample("capital.wav"))) as original:
        expected = np.frombuffer(original.readframes(original.getnframes()), np.int16)
    read = read_audio(sample(f"capital.{suffix}"), ANY_LENGTH)
    assert read.dtype == np.int16
    # The coders of M4A and Opus pad to whole frames.
    assert len(expected) <= len(read) <= len(expected) + 0.1 * SAMPLE_RATE
    assert likeness(expected, read) > LIKENESS[suffix] - 1e-6


def test_other_rates_and_channels_become_16_khz_mono() -> None:
    stereo = np.repeat(tone(1, 44_100), 2)
    read = read_audio(wav(stereo, 44_100, channels=2), ANY_LENGTH)
    assert abs(len(read) - SAMPLE_RATE) <= 1
    assert likeness(tone(1), read) > 0.999


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_a_file_that_ends_early_is_refused(suffix: str, share: float) -> None:
    whole = sample(f"capital.{suffix}")
    message = refusal(whole[: int(len(whole) * share)])
    assert "ends early" in message or "cannot be read as audio" in message or "too short" in message


def test_the_refusal_of_a_truncated_file_says_how_much_is_there() -> None:
    whole = sample("capital.wav")
    assert "of the 3.0 seconds that it says it holds, 1.5 can be read" in refusal(whole[: len(whole) // 2])


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_F000, 0])
def test_a_wav_that_was_written_into_a_pipe_is_read_whole(size: int) -> None:
    whole = bytearray(sample("capital.wav"))
    whole[4:8] = whole[40:44] = struct.pack("<I", size)
    assert len(read_audio(bytes(whole), ANY_LENGTH)) == len(read_audio(sample("capital.wav"), ANY_LENGTH))


def test_damage_in_the_middle_costs_its_own_sound() -> None:
    whole = bytearray(sample("capital.mp3"))
    whole[6000:6100] = bytes(100)
    intact = read_audio(sample("capital.mp3"), ANY_LENGTH)
    assert abs(len(read_audio(bytes(whole), ANY_LENGTH)) - len(intact)) < 0.2 * SAMPLE_RATE


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"") == "The file is empty."


@pytest.mark.parametrize(
    "garbage",
    [b"x", b"RIFF", b"OggS", b"ID3", bytes(50_000), b"\xff" * 50_000, b"{}" * 5000, Path(__file__).read_bytes()],
    ids=["letter", "riff", "ogg", "id3", "zeros", "ones", "json", "text"],
)
def test_garbage_is_refused(garbage: bytes) -> None:
    assert "cannot be read as audio; WAV, MP3, M4A, FLAC, OGG and WebM can be" in refusal(garbage)


def test_random_bytes_under_every_header_are_refused() -> None:
    noise = np.random.default_rng(0).bytes(20_000)
    for suffix in FORMATS[1:]:
        assert refusal(sample(f"capital.{suffix}")[:64] + noise)


@pytest.mark.parametrize(
    "playlist",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{}'\n"],
    ids=["hls", "concat"],
)
def test_a_file_cannot_make_the_server_read_another(playlist: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(sample("capital.wav"))
    assert "cannot be read as audio" in refusal(playlist.format(secret).encode())


def test_a_film_without_sound_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for packet in (*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode(None)):
            container.mux(packet)
    assert refusal(file.getvalue()) == "The file has no audio in it."


def test_a_codec_that_is_not_read_is_named() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ac3", rate=48_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(tone(1)[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    assert "coded as 'ac3', which is not read here" in refusal(file.getvalue())


def test_too_short_audio_is_refused() -> None:
    assert "too short: 0.05 seconds, where 0.1 is the least" in refusal(wav(tone(0.05)))
    assert "no sound" in refusal(wav(tone(0))) or "cannot be read" in refusal(wav(tone(0)))


def test_audio_of_more_than_the_longest_is_refused_with_413() -> None:
    assert len(read_audio(wav(tone(2)), 2.0)) == 2 * SAMPLE_RATE
    with pytest.raises(TooLarge) as refused:
        read_audio(wav(tone(2.5)), 2.0)
    assert (refused.value.status, refused.value.param, refused.value.code) == (413, "file", "audio_too_long")
