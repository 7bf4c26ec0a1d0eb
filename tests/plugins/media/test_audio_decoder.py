"""Audio files are decoded, or rejected with a reason."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from mlx_host_media.audio import AudioLimits, Samples
from mlx_host_media.audio_decoder import decode_audio
from mlx_host_media.errors import MediaError

from tests.support.speech import FORMATS, SAMPLE_RATE, sample, tone, wav

# Minimum correlation of the decoded samples with the original.
MIN_CORRELATION = {"wav": 1.0, "flac": 1.0, "mp3": 0.95, "m4a": 0.95, "ogg": 0.9, "webm": 0.9}


def decode(file: bytes, max_seconds: float = 3600.0, min_seconds: float = 0.1) -> Samples:
    return decode_audio(file, SAMPLE_RATE, AudioLimits(max_seconds, min_seconds))


def reason(file: bytes) -> str:
    with pytest.raises(MediaError) as error:
        decode(file)
    assert error.value.code == "invalid_audio"
    return str(error.value)


def max_correlation(one: Samples, other: Samples) -> float:
    """Return the highest cross-correlation of two clips, which may be offset by some milliseconds."""
    length = min(len(one), len(other))
    spectra = np.fft.rfft(one[:length].astype(float), 2 * length), np.fft.rfft(other[:length].astype(float), 2 * length)
    product = np.fft.irfft(spectra[0] * np.conj(spectra[1]))
    return float(product.max() / (np.linalg.norm(one.astype(float)) * np.linalg.norm(other.astype(float))))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_has_the_same_samples(suffix: str) -> None:
    with wave.open(io.BytesIO(sample("capital.wav"))) as original:
        expected = np.frombuffer(original.readframes(original.getnframes()), np.int16)
    decoded = decode(sample(f"capital.{suffix}"))
    assert decoded.dtype == np.int16
    # The encoders of M4A and Opus pad to whole frames.
    assert len(expected) <= len(decoded) <= len(expected) + 0.1 * SAMPLE_RATE
    assert max_correlation(expected, decoded) > MIN_CORRELATION[suffix] - 1e-6


def test_metadata_that_is_not_utf_8_is_ignored() -> None:
    title = b"INAM" + struct.pack("<I", 4) + b"\xff\xfe\xff\x00"
    chunk = b"LIST" + struct.pack("<I", len(title) + 4) + b"INFO" + title
    file = wav(tone(1))
    file = file[:36] + chunk + file[36:]
    file = file[:4] + struct.pack("<I", len(file) - 8) + file[8:]
    assert len(decode(file)) == SAMPLE_RATE


def test_other_rates_and_channels_become_16_khz_mono() -> None:
    stereo = np.repeat(tone(1, 44_100), 2)
    decoded = decode(wav(stereo, 44_100, channels=2))
    assert abs(len(decoded) - SAMPLE_RATE) <= 1
    assert max_correlation(tone(1), decoded) > 0.999


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.6])
def test_a_truncated_file_is_rejected(suffix: str, fraction: float) -> None:
    file = sample(f"capital.{suffix}")
    message = reason(file[: int(len(file) * fraction)])
    assert "truncated" in message or "cannot be decoded" in message or "too short" in message


def test_the_error_for_a_truncated_file_has_both_lengths() -> None:
    file = sample("capital.wav")
    assert "1.5 of the 3.0 seconds" in reason(file[: len(file) // 2])


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_F000, 0])
def test_a_wav_of_unknown_size_is_decoded_completely(size: int) -> None:
    file = bytearray(sample("capital.wav"))
    file[4:8] = file[40:44] = struct.pack("<I", size)
    assert len(decode(bytes(file))) == len(decode(sample("capital.wav")))


def test_a_damaged_packet_is_skipped() -> None:
    file = bytearray(sample("capital.mp3"))
    file[6000:6100] = bytes(100)
    intact = decode(sample("capital.mp3"))
    assert abs(len(decode(bytes(file))) - len(intact)) < 0.2 * SAMPLE_RATE


def test_an_empty_file_is_rejected() -> None:
    assert reason(b"") == "the file is empty"


@pytest.mark.parametrize(
    "data",
    [b"x", b"RIFF", b"OggS", b"ID3", bytes(50_000), b"\xff" * 50_000, b"{}" * 5000, Path(__file__).read_bytes()],
    ids=["letter", "riff", "ogg", "id3", "zeros", "ones", "json", "text"],
)
def test_a_file_that_is_not_audio_is_rejected(data: bytes) -> None:
    assert "WAV, MP3, M4A, FLAC, OGG or WebM" in reason(data)


def test_random_bytes_after_every_header_are_rejected() -> None:
    noise = np.random.default_rng(0).bytes(20_000)
    for suffix in FORMATS[1:]:
        assert reason(sample(f"capital.{suffix}")[:64] + noise)


@pytest.mark.parametrize(
    "playlist",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{}'\n"],
    ids=["hls", "concat"],
)
def test_a_playlist_cannot_open_another_file(playlist: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(sample("capital.wav"))
    assert "cannot be decoded" in reason(playlist.format(secret).encode())


def test_a_video_without_audio_is_rejected() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for packet in (*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode(None)):
            container.mux(packet)
    assert reason(file.getvalue()) == "the file has no audio stream"


def test_an_unsupported_codec_is_named() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ac3", rate=48_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(tone(1)[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    assert "the audio codec 'ac3' is not supported" in reason(file.getvalue())


def test_audio_below_the_minimum_is_rejected() -> None:
    assert "too short: 0.05 seconds; the minimum is 0.1" in reason(wav(tone(0.05)))
    assert "no audio samples" in reason(wav(tone(0))) or "cannot be decoded" in reason(wav(tone(0)))
    assert len(decode(wav(tone(0.05)), min_seconds=0)) == 0.05 * SAMPLE_RATE


def test_audio_above_the_maximum_is_rejected() -> None:
    assert len(decode(wav(tone(2)), max_seconds=2)) == 2 * SAMPLE_RATE
    with pytest.raises(MediaError, match="2 seconds") as error:
        decode(wav(tone(2.5)), max_seconds=2)
    assert error.value.code == "audio_too_long"


def test_decoding_stops_at_the_maximum_length() -> None:
    # 8-bit samples at 1 Hz: an hour of audio in 3,600 bytes.
    header = b"RIFF" + (3636).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    wav_format = b"\1\0\1\0" + (1).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\1\0\x08\0"
    file = header + wav_format + b"data" + (3600).to_bytes(4, "little") + b"\x80" * 3600
    with pytest.raises(MediaError, match="10 minutes"):
        decode(file, max_seconds=600)


@pytest.mark.parametrize("seconds", [0.05, 0.4, 4.0])
def test_a_slightly_truncated_wav_is_rejected(seconds: float) -> None:
    file = wav(tone(seconds))
    with pytest.raises(MediaError, match="truncated"):
        decode(file[:-400], min_seconds=0)
    # Some programs include the header in the declared size.
    inexact = file[:4] + len(file).to_bytes(4, "little") + file[8:]
    assert len(decode(inexact, min_seconds=0)) == seconds * SAMPLE_RATE


@pytest.mark.parametrize("format_", ["<u1", "<i2", "<i3", "<i4", "<f4", "<f8"])
def test_all_sample_formats_of_wav(format_: str) -> None:
    clip = tone(0.5)
    size = int(format_[-1])
    scaled = clip.astype(float) / 32768
    match format_[1]:
        case "u":
            data = np.round(scaled * 128 + 128).astype("u1").tobytes()
        case "f":
            data = scaled.astype(format_).tobytes()
        case _:
            values = (scaled * 2 ** (8 * size - 1)).astype("<i4")
            data = values.view("u1").reshape(-1, 4)[:, :size].tobytes()
    fmt = struct.pack("<HHIIHH", 3 if format_[1] == "f" else 1, 1, SAMPLE_RATE, SAMPLE_RATE * size, size, 8 * size)
    chunks = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    decoded = decode(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    assert np.abs(decoded.astype(int) - clip).max() <= (300 if size == 1 else 2)
