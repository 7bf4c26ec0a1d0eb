"""The options of the backend `whisper`; the thresholds have the defaults of OpenAI's Whisper."""

from __future__ import annotations

from typing import Literal

from mlx_host.backend import Options
from pydantic import Field


class WhisperOptions(Options):
    max_audio_mb: float = Field(
        50,
        gt=0,
        description="Maximum size of a file in megabytes. Larger files are rejected with a 413. --max-body-mb applies "
        "as well.",
    )
    max_audio_minutes: float = Field(
        120,
        gt=0,
        description="Maximum length of the audio in minutes. Longer audio is rejected with a 413. An hour of audio "
        "temporarily needs 2.5 GB of memory.",
    )
    language: str | None = Field(
        None,
        description="Language of requests that do not set one, such as 'en'. By default it is detected from the audio.",
    )
    dtype: Literal["auto", "float16", "float32"] = Field(
        "auto", description="Data type for computation. auto: float16, or float32 if MLX runs on a CPU."
    )
    condition_on_previous_text: bool = Field(
        True,
        description="Pass the previous text as a prompt to each window: more coherent text, but errors may repeat.",
    )
    skip_silence: bool = Field(
        True,
        description="Skip silences of more than three seconds, after which Whisper loses sentences and in which it "
        "invents text. Timestamps are those of the whole audio.",
    )
    no_speech_threshold: float = Field(
        0.6,
        ge=0,
        le=1,
        description="A window with a higher no-speech probability and a low log-probability is treated as silence.",
    )
    logprob_threshold: float = Field(
        -1.0,
        le=0,
        description="A window with a lower mean log-probability is decoded again at a higher temperature.",
    )
    compression_ratio_threshold: float = Field(
        2.4,
        gt=0,
        description="A window whose text has a higher compression ratio is treated as repetitive and decoded again at "
        "a higher temperature.",
    )
