"""The installed mlx-whisper has the names and signatures that this backend uses."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from mlx_whisper import audio, decoding, load_models, timing, tokenizer, whisper


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (audio.log_mel_spectrogram, ["audio", "n_mels", "padding"]),
        (audio.pad_or_trim, ["array", "length", "axis"]),
        (decoding.decode, ["model", "mel", "options", "kwargs"]),
        (decoding.detect_language, ["model", "mel", "tokenizer"]),
        (load_models.load_model, ["path_or_hf_repo", "dtype"]),
        (timing.dtw, ["x"]),
        (tokenizer.get_tokenizer, ["multilingual", "num_languages", "language", "task"]),
    ],
)
def test_function_parameters(function: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_parameters_of_add_word_timestamps() -> None:
    used = {"segments", "model", "tokenizer", "mel", "num_frames", "last_speech_timestamp"}
    parameters = inspect.signature(timing.add_word_timestamps).parameters.values()
    assert used <= {parameter.name for parameter in parameters}
    required = {
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
    }
    assert required <= used


def test_audio_constants() -> None:
    assert (audio.SAMPLE_RATE, audio.HOP_LENGTH, audio.N_FRAMES, audio.N_SAMPLES) == (16_000, 160, 3000, 480_000)
    assert audio.FRAMES_PER_SECOND == 100


def test_dataclass_fields() -> None:
    options = {field.name for field in fields(decoding.DecodingOptions)}
    assert {"task", "language", "temperature", "prompt", "fp16"} <= options
    result = {field.name for field in fields(decoding.DecodingResult)}
    assert {"tokens", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob"} <= result
    sizes = {field.name for field in fields(whisper.ModelDimensions)}
    assert {"n_mels", "n_audio_ctx", "n_vocab", "n_text_ctx"} <= sizes


def test_the_package_contains_the_tokenizer() -> None:
    german = tokenizer.get_tokenizer(True, num_languages=99, language="de", task="translate")
    assert german.decode(german.encode(" Guten Tag")) == " Guten Tag"
    assert german.timestamp_begin > german.eot
    assert tokenizer.LANGUAGES["de"] == "german"
    assert tokenizer.TO_LANGUAGE_CODE["german"] == "de"


def test_torch_is_not_imported() -> None:
    assert "torch" not in sys.modules
