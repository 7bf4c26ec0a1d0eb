"""How windows are split into segments, and that the results are those of mlx_whisper.transcribe."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_host_media.audio_decoder import decode_audio
from mlx_host_whisper.mlx_whisper_api import DecodingResult, Whisper
from mlx_host_whisper.transcriber import TEMPERATURES, DecodingSettings, TimestampClamp, split_window
from mlx_whisper import transcribe

from tests.plugins.whisper.comparison import ONE_HOUR, assert_same, reference_transcript, transcribe_segments
from tests.support.server import BLAS
from tests.support.speech import SAMPLE_RATE, sample
from tests.support.tiny_whisper import write_tiny_whisper

FIRST_TIMESTAMP = 100


def timestamp(position: int) -> int:
    return FIRST_TIMESTAMP + position


# Splitting


def test_a_window_is_split_at_timestamp_pairs_and_ends_at_the_last_pair() -> None:
    tokens = [timestamp(0), 1, 2, timestamp(50), timestamp(60), 3, timestamp(90), timestamp(90), 4]
    split = split_window(tokens, FIRST_TIMESTAMP)
    assert split.segments == [(0, 50, tokens[:4]), (60, 90, tokens[4:7])]
    assert (split.next_start, split.ends_in_silence) == (90, False)


def test_a_single_timestamp_at_the_end_means_silence() -> None:
    tokens = [timestamp(0), 1, timestamp(50), timestamp(60), 2, timestamp(90)]
    split = split_window(tokens, FIRST_TIMESTAMP)
    assert split.segments == [(0, 50, tokens[:3]), (60, 90, tokens[3:])]
    assert (split.next_start, split.ends_in_silence) == (None, True)


@pytest.mark.parametrize(
    ("tokens", "last"),
    [
        ([timestamp(0), 1, 2, timestamp(70)], 70),
        ([timestamp(0), 1, 2], None),
        ([timestamp(3), 1, 2], 3),
        ([1, 2], None),
        ([], None),
    ],
)
def test_a_window_without_timestamp_pairs_is_one_segment(tokens: list[int], last: int | None) -> None:
    split = split_window(tokens, FIRST_TIMESTAMP)
    assert split.segments == [(0, last, tokens)]
    assert split.next_start is None


@given(st.lists(st.integers(0, 2 * FIRST_TIMESTAMP), max_size=40))
def test_segments_contain_the_tokens_in_order(tokens: list[int]) -> None:
    split = split_window(tokens, FIRST_TIMESTAMP)
    joined = [token for _, _, segment in split.segments for token in segment]
    assert joined == tokens[: len(joined)]
    assert all(segment for _, _, segment in split.segments) or not tokens
    if len(joined) < len(tokens):
        assert split.next_start is not None


# Timestamps


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), max_size=20))
def test_clamped_timestamps_are_in_order(spans: list[tuple[float, float]]) -> None:
    clamp = TimestampClamp(30.0)
    clamped = [clamp.clamp(start, end) for start, end in spans]
    starts = [start for start, _ in clamped]
    assert starts == sorted(starts)
    assert all(0 <= start <= end <= 30 for start, end in clamped)


def test_ordered_timestamps_are_not_changed() -> None:
    clamp = TimestampClamp(30.0)
    spans = [(0.0, 2.5), (2.5, 4.0), (3.9, 10.0), (12.0, 30.0)]
    assert [clamp.clamp(start, end) for start, end in spans] == spans


# Temperature fallback


def decoding_result(**statistics: float) -> DecodingResult:
    defaults = {"avg_logprob": -0.5, "compression_ratio": 1.5, "no_speech_prob": 0.1}
    return DecodingResult(mx.zeros(0), "en", **{**defaults, **statistics})


@pytest.mark.parametrize(
    ("statistics", "fallback", "silence"),
    [
        ({}, False, False),
        ({"compression_ratio": 2.5}, True, False),
        ({"avg_logprob": -1.1}, True, False),
        ({"avg_logprob": -1.1, "no_speech_prob": 0.7}, False, True),
        ({"no_speech_prob": 0.7}, False, False),
    ],
)
def test_thresholds(statistics: Mapping[str, float], fallback: bool, silence: bool) -> None:
    result = decoding_result(**statistics)
    assert DecodingSettings().needs_fallback(result) is fallback
    assert DecodingSettings().is_silence(result) is silence


# Comparison with mlx_whisper.transcribe


GREEDY = (DecodingSettings(temperatures=(0.0,)), {"temperature": 0.0})
SAMPLED = (DecodingSettings(temperatures=(0.9,)), {"temperature": 0.9})
WITHOUT_CONTEXT = (
    DecodingSettings(temperatures=(0.3,), condition_on_previous_text=False),
    {"temperature": 0.3, "condition_on_previous_text": False},
)
WITH_FALLBACK = (DecodingSettings(logprob_threshold=-0.1), {"logprob_threshold": -0.1})


@pytest.mark.parametrize(
    ("seed", "spread", "case", "word_timestamps"),
    [
        pytest.param(4, 0.4, GREEDY, False, id="short windows"),
        pytest.param(4, 0.4, GREEDY, True, id="short windows, word timestamps"),
        pytest.param(3, 0.5, SAMPLED, False, id="unordered timestamps"),
        pytest.param(3, 0.5, GREEDY, True, id="unordered timestamps, word timestamps"),
        pytest.param(0, 1.0, WITHOUT_CONTEXT, False, id="text without timestamps, no context"),
        pytest.param(0, 1.0, WITH_FALLBACK, True, id="text without timestamps, all temperatures, word timestamps"),
    ],
)
def test_random_models_have_the_same_transcript(
    seed: int, spread: float, case: tuple[DecodingSettings, Mapping[str, Any]], word_timestamps: bool, tmp_path: Path
) -> None:
    settings, reference_options = case
    folder = write_tiny_whisper(tmp_path, seed=seed, spread=spread)
    samples = decode_audio(sample("news.ogg"), SAMPLE_RATE, ONE_HOUR)
    expected = reference_transcript(
        folder, samples, initial_prompt="Once upon", word_timestamps=word_timestamps, **reference_options
    )
    whisper = Whisper(folder, "float32")
    segments = transcribe_segments(whisper, samples, settings, "Once upon", word_timestamps)
    assert len(segments) > 1
    assert_same(segments, expected, whisper.spectrogram(samples).content / 100)


def test_a_real_model_has_the_same_transcript(whisper_tiny: Path) -> None:
    # In a separate process, because a fast BLAS must be preloaded.
    command = [sys.executable, "-m", "tests.plugins.whisper.comparison", str(whisper_tiny), "news.ogg"]
    outcome = subprocess.run(command, env={**os.environ, **BLAS}, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_the_default_thresholds_are_the_same() -> None:
    assert transcribe.__kwdefaults__["temperature"] == TEMPERATURES
    defaults = DecodingSettings()
    for name in ("no_speech_threshold", "logprob_threshold", "compression_ratio_threshold"):
        assert transcribe.__kwdefaults__[name] == getattr(defaults, name)


# Edge cases


@pytest.mark.parametrize("word_timestamps", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, 15, 2999, 3001])
def test_audio_of_any_length_is_transcribed(tiny: Whisper, frames: int, word_timestamps: bool) -> None:
    samples = np.random.default_rng(frames).integers(-3000, 3000, frames * 160).astype(np.int16)
    segments = transcribe_segments(tiny, samples, DecodingSettings(temperatures=(0.0,)), None, word_timestamps)
    assert segments
    assert all(0 <= segment.start <= segment.end <= frames / 100 for segment in segments)
    for segment in segments:
        statistics = (segment.avg_logprob, segment.compression_ratio, segment.no_speech_prob, segment.temperature)
        assert all(map(math.isfinite, statistics))
