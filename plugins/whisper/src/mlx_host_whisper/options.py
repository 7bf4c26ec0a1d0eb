"""The options of the backend `whisper`; the thresholds' defaults are those of OpenAI's Whisper."""

from __future__ import annotations

from typing import Literal

from mlx_host.backend import Options
from pydantic import Field


class WhisperOptions(Options):
    max_audio_mb: float = Field(
        50, gt=0, description="The largest file, in megabytes; a larger one gets a 413. --max-body-mb bounds it, too."
    )
    max_audio_minutes: float = Field(
        120, gt=0, description="The longest audio; a longer one gets a 413. An hour takes 2.5 GB for a moment."
    )
    language: str | None = Field(
        None, description="The language where a request names none, such as 'en'; by default the model finds out."
    )
    dtype: Literal["auto", "float16", "float32"] = Field(
        "auto", description="What to compute in; auto is float16, and float32 where MLX runs on a CPU."
    )
    condition_on_previous_text: bool = Field(
        True, description="Show each window what was said before it: more coherent, but errors may repeat."
    )
    no_speech_threshold: float = Field(
        0.6, ge=0, le=1, description="Above this probability of no speech, an unlikely transcript counts as silence."
    )
    logprob_threshold: float = Field(
        -1.0, le=0, description="Below this mean log-probability, a window is decoded again at a higher temperature."
    )
    compression_ratio_threshold: float = Field(
        2.4, gt=0, description="Above this ratio the text is taken for a loop, and decoded again."
    )
