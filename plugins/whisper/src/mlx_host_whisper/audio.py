"""Reads audio files from memory, by FFmpeg's libraries, which PyAV brings along."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from mlx_host.errors import InvalidRequest, TooLarge

Samples = np.ndarray[tuple[int], np.dtype[np.int16]]

SAMPLE_RATE = 16_000
SHORTEST_SECONDS = 0.1
# So much less than a file says it holds is no rounding or padding.
MISSING_SECONDS = 0.5

KINDS = "WAV, MP3, M4A, FLAC, OGG and WebM"
# FFmpeg knows hundreds of formats, and some of them open other files and addresses: only these are tried.
CONTAINERS = ("wav", "mp3", "mov", "flac", "ogg", "matroska")
CODECS = (
    *("mp3", "mp3float", "aac", "alac", "flac", "opus", "libopus", "vorbis"),
    *("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw"),
    *("pcm_s16be", "adpcm_ms", "adpcm_ima_wav"),
)
# What programs that cannot go back to fill in a WAV's size write in its place is this or more.
UNKNOWN_WAV_SIZE = 0x7FFF_0000


def read_audio(file: bytes, longest: float) -> Samples:
    """Decode to 16 kHz mono.

    Raises InvalidRequest for what is no audio, is damaged or ends early, and TooLarge for more than `longest` seconds.
    """
    if not file:
        raise _refusal("The file is empty.")
    try:
        with av.open(io.BytesIO(file), "r", options=_only_ours(), metadata_errors="ignore") as container:
            samples = _decode(container, longest)
            declared = _declared_seconds(container, file)
    except (av.FFmpegError, ValueError, EOFError) as error:
        raise _refusal(f"The file cannot be read as audio; {KINDS} can be.") from error
    seconds = len(samples) / SAMPLE_RATE
    if declared is not None and seconds < declared - MISSING_SECONDS:
        raise _refusal(
            f"The file is damaged or ends early: of the {declared:.1f} seconds that it says it holds, "
            f"{seconds:.1f} can be read."
        )
    if _ends_within_ogg_page(file):
        raise _refusal("The file ends early: its last OGG page is not complete.")
    if seconds < SHORTEST_SECONDS:
        raise _refusal(f"The audio is too short: {seconds:.2f} seconds, where {SHORTEST_SECONDS} is the least.")
    return samples


def _refusal(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="file", code="invalid_audio")


def _only_ours() -> dict[str, str]:
    return {"format_whitelist": ",".join(CONTAINERS), "codec_whitelist": ",".join(CODECS), "protocol_whitelist": ""}


def _decode(container: InputContainer, longest: float) -> Samples:
    if not container.streams.audio:
        raise _refusal("The file has no audio in it.")
    stream = container.streams.audio[0]
    if stream.codec_context.name not in CODECS:
        raise _refusal(f"The audio is coded as {stream.codec_context.name!r}, which is not read here; use {KINDS}.")
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    pieces: list[Any] = []
    count = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            continue  # A bad packet costs its own sound; whether much is missing shows in the end.
        for frame in frames:
            assert isinstance(frame, av.AudioFrame)
            for piece in resampler.resample(frame):
                pieces.append(piece.to_ndarray()[0])
                count += len(pieces[-1])
        if count > longest * SAMPLE_RATE:
            raise TooLarge(f"The audio is longer than {longest / 60:g} minutes.", param="file", code="audio_too_long")
    pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    if not pieces:
        raise _refusal("The file holds no sound.")
    return np.concatenate(pieces)


def _declared_seconds(container: InputContainer, file: bytes) -> float | None:
    """How long the file says it is; None if it does not say."""
    if container.duration is None:
        return None
    seconds = container.duration / av.time_base
    if file[:4] == b"RIFF":
        # Of a WAV, FFmpeg reports what there is; the file says in bytes how much there should be.
        size = int.from_bytes(file[4:8], "little")
        return seconds * (size + 8) / len(file) if size < UNKNOWN_WAV_SIZE else None
    return seconds


def _ends_within_ogg_page(file: bytes) -> bool:
    """Whether the last page of an OGG file lacks its end.

    A page has a header of 27 bytes, whose last says how many bytes follow that add up to the length of the body.
    """
    start = file.rfind(b"OggS")
    if file[:4] != b"OggS":
        return False
    header = file[start : start + 27]
    if len(header) < 27:
        return True
    lacing = file[start + 27 : start + 27 + header[26]]
    return len(file) < start + 27 + header[26] + sum(lacing)
