"""All calls into mlx-whisper and MLX: the network, the spectrogram, the tokenizer and decoding of one window.

`mlx_whisper.transcribe` processes a whole file and returns nothing until the end, so `transcriber.py` implements the
loop over the windows with mlx-whisper's own functions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_host.errors import LoadError, describe_error
from mlx_host_media.audio import Samples
from mlx_whisper.audio import FRAMES_PER_SECOND, N_FRAMES, N_SAMPLES, SAMPLE_RATE, log_mel_spectrogram, pad_or_trim
from mlx_whisper.decoding import DecodingOptions, DecodingResult
from mlx_whisper.load_models import load_model
from mlx_whisper.timing import add_word_timestamps, dtw
from mlx_whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, get_tokenizer
from mlx_whisper.whisper import ModelDimensions

WINDOW_FRAMES: int = N_FRAMES
WEIGHTS = ("weights.safetensors", "weights.npz")

__all__ = [
    "FRAMES_PER_SECOND",
    "SAMPLE_RATE",
    "WINDOW_FRAMES",
    "DecodingResult",
    "Spectrogram",
    "TaskTokenizer",
    "Whisper",
    "language_code",
    "language_name",
]


def language_code(name: str) -> str | None:
    """Return the code of a language, given its code or English name; None if Whisper does not support it."""
    name = name.lower()
    return name if name in LANGUAGES else TO_LANGUAGE_CODE.get(name)


def language_name(code: str) -> str:
    return str(LANGUAGES[code])


def on_cpu() -> bool:
    return bool(mx.default_device().type == mx.DeviceType.cpu)


@dataclass(frozen=True)
class Spectrogram:
    """Log-mel frames of 10 ms; after the `content` frames of the audio, there is a window of silence."""

    frames: mx.array
    content: int

    def window(self, seek: int, size: int) -> mx.array:
        """Return `size` frames from frame `seek`, zero-padded to a whole window."""
        padded: mx.array = pad_or_trim(self.frames[seek : seek + size], N_FRAMES, axis=-2)
        return padded


class TaskTokenizer:
    """The network's tokenizer for one language and task."""

    def __init__(self, network: Any, language: str, translate: bool) -> None:
        self.language = language
        self.task = "translate" if translate else "transcribe"
        self.tokenizer = get_tokenizer(
            network.is_multilingual, num_languages=network.num_languages, language=language, task=self.task
        )
        self.first_timestamp: int = self.tokenizer.timestamp_begin
        # Decoding truncates prompts to half of the context.
        self._max_prompt_tokens: int = network.dims.n_text_ctx // 2 - 1

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the last tokens of a prompt, up to the maximum that decoding uses."""
        tokens: list[int] = self.tokenizer.encode(" " + prompt.strip(), disallowed_special=())
        return tokens[-self._max_prompt_tokens :]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special tokens and timestamps."""
        return str(self.tokenizer.decode([token for token in tokens if token < self.tokenizer.eot]))


class Whisper:
    """A loaded network.

    Args:
        folder: A model in mlx-whisper's format.
        dtype: auto, float16 or float32.

    Raises LoadError.
    """

    def __init__(self, folder: Path, dtype: str) -> None:
        self._half = dtype == "float16" or (dtype == "auto" and not on_cpu())
        self._dtype = mx.float16 if self._half else mx.float32
        check_folder(folder)
        self._network = load_model(str(folder), dtype=self._dtype)
        # Decoding requires all weights to have the data type of the computation.
        self._network.set_dtype(self._dtype)
        mx.eval(self._network.parameters())
        self.multilingual: bool = self._network.is_multilingual
        self.tokens_per_window: int = self._network.dims.n_audio_ctx

    def spectrogram(self, samples: Samples) -> Spectrogram:
        """Compute the log-mel spectrogram of samples at 16 kHz."""
        audio = mx.array(samples).astype(mx.float32) / 32768.0
        frames = log_mel_spectrogram(audio, n_mels=self._network.dims.n_mels, padding=N_SAMPLES)
        mx.eval(frames)
        return Spectrogram(frames, frames.shape[-2] - N_FRAMES)

    def task_tokenizer(self, language: str, translate: bool) -> TaskTokenizer:
        return TaskTokenizer(self._network, language, translate)

    def detect_language(self, window: mx.array) -> str:
        """Return the code of the most likely language of a window."""
        if not self.multilingual:
            return "en"
        probabilities: Mapping[str, float] = self._network.detect_language(window.astype(self._dtype))[1]
        return max(probabilities, key=lambda code: probabilities[code])

    def decode(
        self, window: mx.array, tokenizer: TaskTokenizer, prompt: Sequence[int], temperature: float
    ) -> DecodingResult:
        """Decode one window at one temperature."""
        options = DecodingOptions(
            task=tokenizer.task,
            language=tokenizer.language,
            temperature=temperature,
            prompt=list(prompt),
            fp16=self._half,
        )
        result = self._network.decode(window.astype(self._dtype), options)
        assert isinstance(result, DecodingResult)
        return result

    def add_word_timestamps(
        self,
        segments: list[dict[str, Any]],
        window: mx.array,
        tokenizer: TaskTokenizer,
        frames: int,
        last_speech: float,
    ) -> None:
        """Set the "words" of each segment, and update its "start" and "end" accordingly.

        `frames` is the length of the window, `last_speech` the end of the previous word in seconds.
        """
        add_word_timestamps(
            segments=segments,
            model=self._network,
            tokenizer=tokenizer.tokenizer,
            mel=window.astype(self._dtype),
            num_frames=frames,
            last_speech_timestamp=last_speech,
        )

    def warm_up(self) -> None:
        """Decode one window and align words once, so that the kernels and functions are compiled."""
        window = self.spectrogram(np.zeros(SAMPLE_RATE, np.int16)).window(0, N_FRAMES)
        self.decode(window, self.task_tokenizer("en", False), (), 0.0)
        dtw(np.zeros((2, 2), np.float64))
        self.release()

    def release(self) -> None:
        """Free the memory that MLX caches for reuse."""
        mx.clear_cache()


def check_folder(folder: Path) -> None:
    """Raise LoadError if mlx-whisper cannot load this folder."""
    hint = (
        "Backend 'whisper' loads models in mlx-whisper's format, such as 'mlx-community/whisper-large-v3-turbo' or "
        "'demo:whisper-tiny.en'."
    )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{str(folder)!r} has no readable config.json ({describe_error(error)}). {hint}") from error
    missing = sorted(set(ModelDimensions.__dataclass_fields__) - set(config))
    if missing:
        raise LoadError(
            f"{str(folder / 'config.json')!r} is not a Whisper config: missing {', '.join(missing)}. {hint}"
        )
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise LoadError(f"{str(folder)!r} has no {' or '.join(WEIGHTS)}. {hint}")
