"""Decodes audio files in memory with FFmpeg's libraries, which PyAV's wheels contain.

Audio files can make FFmpeg crash or stall: in a model process, use `DecoderPool.decode_audio`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from mlx_host_media.audio import PADDING_SECONDS, AudioLimits, Samples
from mlx_host_media.errors import MediaError

FORMAT_NAMES = "WAV, MP3, M4A, FLAC, OGG or WebM"
# The enabled formats. FFmpeg has hundreds of others, some of which open other files and network addresses.
CONTAINERS = ("wav", "mp3", "mov", "flac", "ogg", "matroska")
CODECS = (
    *("mp3", "mp3float", "aac", "alac", "flac", "opus", "libopus", "vorbis"),
    *("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw"),
    *("pcm_s16be", "adpcm_ms", "adpcm_ima_wav"),
)
# Tolerated difference to the declared length of a file, in seconds: declared lengths are rounded or estimated.
MAX_MISSING_SECONDS = 0.5
# Tolerated error of the size in a WAV header, in bytes: some programs include the header.
WAV_SIZE_TOLERANCE = 64
# Programs that write to a pipe do not know the size of a WAV and write at least this number.
UNKNOWN_WAV_SIZE = 0x7FFF_0000
# Before version 19, PyAV raises an error by default if a file's metadata is not valid UTF-8.
OPEN_OPTIONS: Mapping[str, Any] = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}


def decode_audio(file: bytes | bytearray, sample_rate: int, limits: AudioLimits) -> Samples:
    """Decode a file to mono samples at `sample_rate`.

    Raises MediaError with the code `invalid_audio` or `audio_too_long`.
    """
    if not file:
        raise _invalid("the file is empty")
    try:
        with av.open(io.BytesIO(file), "r", options=_demuxer_options(), **OPEN_OPTIONS) as container:
            samples = _decode(container, sample_rate, limits.max_seconds)
            declared = _declared_seconds(container, file)
    except (av.FFmpegError, ValueError, EOFError) as error:
        raise _invalid(f"the file cannot be decoded as {FORMAT_NAMES} audio") from error
    seconds = len(samples) / sample_rate
    if declared is not None and (_is_truncated_wav(file) or seconds < declared - MAX_MISSING_SECONDS):
        raise _invalid(
            f"the audio is damaged or truncated: {seconds:.1f} of the {declared:.1f} seconds that the file declares "
            "can be decoded"
        )
    if _ends_within_ogg_page(file):
        raise _invalid("the audio is truncated: its last OGG page is incomplete")
    if seconds < limits.min_seconds:
        raise _invalid(f"the audio is too short: {seconds:.2f} seconds; the minimum is {limits.min_seconds:g}")
    return samples


def _invalid(reason: str) -> MediaError:
    return MediaError(reason, "invalid_audio")


def _demuxer_options() -> dict[str, str]:
    return {"format_whitelist": ",".join(CONTAINERS), "codec_whitelist": ",".join(CODECS), "protocol_whitelist": ""}


def _decode(container: InputContainer, sample_rate: int, max_seconds: float) -> Samples:
    if not container.streams.audio:
        raise _invalid("the file has no audio stream")
    codec = container.streams.audio[0].codec_context.name
    if codec not in CODECS:
        raise _invalid(f"the audio codec {codec!r} is not supported; send {FORMAT_NAMES}")
    chunks: list[Samples] = []
    count = 0
    for chunk in _chunks(container, sample_rate):
        chunks.append(chunk)
        count += len(chunk)
        if count > (max_seconds + PADDING_SECONDS) * sample_rate:
            raise MediaError(f"the audio is longer than the limit of {_length(max_seconds)}", "audio_too_long")
    if not chunks:
        raise _invalid("the file has no audio samples")
    return np.concatenate(chunks)


def _chunks(container: InputContainer, sample_rate: int) -> Iterator[Samples]:
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="s16", layout="mono", rate=sample_rate)
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            continue  # Skip a damaged packet; `decode_audio` rejects the file if too many samples are missing.
        for frame in frames:
            assert isinstance(frame, av.AudioFrame)
            for resampled in resampler.resample(frame):
                yield resampled.to_ndarray()[0]
    for resampled in resampler.resample(None):
        yield resampled.to_ndarray()[0]


def _length(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"


def _wav_size(file: bytes | bytearray) -> int | None:
    """Return the size that a WAV header declares; None if unknown or if the file is not a WAV."""
    if file[:4] != b"RIFF":
        return None
    size = int.from_bytes(file[4:8], "little")
    return size + 8 if 0 < size < UNKNOWN_WAV_SIZE else None


def _is_truncated_wav(file: bytes | bytearray) -> bool:
    size = _wav_size(file)
    return size is not None and len(file) < size - WAV_SIZE_TOLERANCE


def _declared_seconds(container: InputContainer, file: bytes | bytearray) -> float | None:
    """Return the declared length of a file; None if unknown."""
    if container.duration is None:
        return None
    seconds = container.duration / av.time_base
    if file[:4] == b"RIFF":
        # For a truncated WAV, FFmpeg reports the length of the available data.
        size = _wav_size(file)
        return None if size is None else seconds * size / len(file)
    return seconds


def _ends_within_ogg_page(file: bytes | bytearray) -> bool:
    """Return whether the last page of an OGG file is incomplete.

    A page starts with a header of 27 bytes. Its last byte is the length of the segment table; the sum of the segment
    table is the length of the body.
    """
    start = file.rfind(b"OggS")
    if file[:4] != b"OggS":
        return False
    header = file[start : start + 27]
    if len(header) < 27:
        return True
    segment_table = file[start + 27 : start + 27 + header[26]]
    return len(file) < start + 27 + header[26] + sum(segment_table)
