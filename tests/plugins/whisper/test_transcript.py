"""The way through the windows: where a window is cut, and that the results are those of mlx_whisper.transcribe."""

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
from mlx_host_whisper.transcript import TEMPERATURES, Clock, Rules, cut
from mlx_whisper import transcribe

from tests.plugins.whisper.comparison import ANY_LENGTH, assert_same, ours, reference
from tests.support.server import BLAS
from tests.support.speech import SAMPLE_RATE, sample
from tests.support.tiny_whisper import write_tiny_whisper

BEGIN = 100


def time(position: int) -> int:
    return BEGIN + position


# Where a window is cut


def test_text_between_two_times_is_a_segment_and_what_follows_the_last_pair_is_left() -> None:
    tokens = [time(0), 1, 2, time(50), time(60), 3, time(90), time(90), 4]
    found = cut(tokens, BEGIN)
    assert found.pieces == [(0, 50, tokens[:4]), (60, 90, tokens[4:7])]
    assert (found.next, found.ends_in_silence) == (90, False)


def test_one_time_at_the_end_means_that_silence_follows() -> None:
    tokens = [time(0), 1, time(50), time(60), 2, time(90)]
    found = cut(tokens, BEGIN)
    assert found.pieces == [(0, 50, tokens[:3]), (60, 90, tokens[3:])]
    assert (found.next, found.ends_in_silence) == (None, True)


@pytest.mark.parametrize(
    ("tokens", "last"),
    [
        ([time(0), 1, 2, time(70)], 70),
        ([time(0), 1, 2], None),
        ([time(3), 1, 2], 3),
        ([1, 2], None),
        ([], None),
    ],
)
def test_without_a_pair_the_window_is_one_segment(tokens: list[int], last: int | None) -> None:
    found = cut(tokens, BEGIN)
    assert found.pieces == [(0, last, tokens)]
    assert found.next is None


@given(st.lists(st.integers(0, 2 * BEGIN), max_size=40))
def test_pieces_are_the_tokens_in_order(tokens: list[int]) -> None:
    found = cut(tokens, BEGIN)
    joined = [token for _, _, piece in found.pieces for token in piece]
    assert joined == tokens[: len(joined)]
    assert all(piece for _, _, piece in found.pieces) or not tokens
    if len(joined) < len(tokens):
        assert found.next is not None


# Times


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), max_size=20))
def test_a_clock_keeps_times_in_order(spans: list[tuple[float, float]]) -> None:
    clock = Clock(30.0)
    right = [clock.put_right(start, end) for start, end in spans]
    starts = [start for start, _ in right]
    assert starts == sorted(starts)
    assert all(0 <= start <= end <= 30 for start, end in right)


def test_a_clock_leaves_times_in_order_as_they_are() -> None:
    clock = Clock(30.0)
    spans = [(0.0, 2.5), (2.5, 4.0), (3.9, 10.0), (12.0, 30.0)]
    assert [clock.put_right(start, end) for start, end in spans] == spans


# When a window is decoded again


def result(**numbers: float) -> DecodingResult:
    usual = {"avg_logprob": -0.5, "compression_ratio": 1.5, "no_speech_prob": 0.1}
    return DecodingResult(mx.zeros(0), "en", **{**usual, **numbers})


@pytest.mark.parametrize(
    ("numbers", "again", "silence"),
    [
        ({}, False, False),
        ({"compression_ratio": 2.5}, True, False),
        ({"avg_logprob": -1.1}, True, False),
        ({"avg_logprob": -1.1, "no_speech_prob": 0.7}, False, True),
        ({"no_speech_prob": 0.7}, False, False),
    ],
)
def test_rules(numbers: Mapping[str, float], again: bool, silence: bool) -> None:
    heard = result(**numbers)
    assert Rules().wants_another(heard) is again
    assert Rules().is_silence(heard) is silence


# The same as mlx_whisper.transcribe


GREEDY = (Rules(temperatures=(0.0,)), {"temperature": 0.0})
HOT = (Rules(temperatures=(0.9,)), {"temperature": 0.9})
FORGETFUL = (
    Rules(temperatures=(0.3,), condition_on_previous_text=False),
    {"temperature": 0.3, "condition_on_previous_text": False},
)
RETRIED = (Rules(logprob_threshold=-0.1), {"logprob_threshold": -0.1})


@pytest.mark.parametrize(
    ("seed", "spread", "case", "words"),
    [
        pytest.param(4, 0.4, GREEDY, False, id="short windows"),
        pytest.param(4, 0.4, GREEDY, True, id="short windows, words timed"),
        pytest.param(3, 0.5, HOT, False, id="times in disorder"),
        pytest.param(3, 0.5, GREEDY, True, id="times in disorder, words timed"),
        pytest.param(0, 1.0, FORGETFUL, False, id="text alone, without context"),
        pytest.param(0, 1.0, RETRIED, True, id="text alone, tried at all temperatures, words timed"),
    ],
)
def test_random_networks_write_what_transcribe_writes(
    seed: int, spread: float, case: tuple[Rules, Mapping[str, Any]], words: bool, tmp_path: Path
) -> None:
    rules, settings = case
    folder = write_tiny_whisper(tmp_path, seed=seed, spread=spread)
    samples = decode_audio(sample("news.ogg"), SAMPLE_RATE, ANY_LENGTH)
    expected = reference(folder, samples, initial_prompt="Once upon", word_timestamps=words, **settings)
    whisper = Whisper(folder, "float32")
    segments = ours(whisper, samples, rules, "Once upon", words)
    assert len(segments) > 1
    assert_same(segments, expected, whisper.spectrogram(samples).content / 100)


def test_real_speech_is_written_as_transcribe_writes_it(whisper_tiny: Path) -> None:
    # In a process of its own, which has a fast BLAS from its start.
    command = [sys.executable, "-m", "tests.plugins.whisper.comparison", str(whisper_tiny), "news.ogg"]
    outcome = subprocess.run(command, env={**os.environ, **BLAS}, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_the_temperatures_are_those_of_transcribe() -> None:
    assert transcribe.__kwdefaults__["temperature"] == TEMPERATURES
    defaults = Rules()
    for name in ("no_speech_threshold", "logprob_threshold", "compression_ratio_threshold"):
        assert transcribe.__kwdefaults__[name] == getattr(defaults, name)


# Odd lengths


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, 15, 2999, 3001])
def test_audio_of_any_length_is_gone_through(tiny: Whisper, frames: int, words: bool) -> None:
    samples = np.random.default_rng(frames).integers(-3000, 3000, frames * 160).astype(np.int16)
    segments = ours(tiny, samples, Rules(temperatures=(0.0,)), None, words)
    assert segments
    assert all(0 <= segment.start <= segment.end <= frames / 100 for segment in segments)
    numbers = [(each.avg_logprob, each.compression_ratio, each.no_speech_prob, each.temperature) for each in segments]
    assert all(math.isfinite(number) for each in numbers for number in each)
