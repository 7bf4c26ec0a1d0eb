"""All contact with mlx-whisper and MLX: the network, its spectrogram, its tokenizer and one step of decoding.

`mlx_whisper.transcribe` takes a whole file and says nothing before its end; the parts that it is made of are used here,
and `transcript.py` goes through the windows in its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_host.errors import LoadError
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
    "Whisper",
    "Words",
    "language_code",
    "language_name",
]


def language_code(name: str) -> str | None:
    """The code of a language that is given by its code or English name; None if Whisper does not know it."""
    name = name.lower()
    return name if name in LANGUAGES else TO_LANGUAGE_CODE.get(name)


def language_name(code: str) -> str:
    return str(LANGUAGES[code])


def on_cpu() -> bool:
    return bool(mx.default_device().type == mx.DeviceType.cpu)


@dataclass(frozen=True)
class Spectrogram:
    """Log-mel frames of 10 ms: `content` of them are of the audio, the silence of one more window follows."""

    frames: mx.array
    content: int

    def window(self, seek: int, size: int) -> mx.array:
        """The `size` frames from `seek` on, made up with nothing to a whole window."""
        padded: mx.array = pad_or_trim(self.frames[seek : seek + size], N_FRAMES, axis=-2)
        return padded


class Words:
    """What a transcript is written in: a language and whether it is translated, as the network's tokens."""

    def __init__(self, network: Any, language: str, translate: bool) -> None:
        self.language = language
        self.task = "translate" if translate else "transcribe"
        self.tokenizer = get_tokenizer(
            network.is_multilingual, num_languages=network.num_languages, language=language, task=self.task
        )
        self.first_timestamp: int = self.tokenizer.timestamp_begin

        # What decoding leaves off of a prompt that is longer than half of the context.
        self._longest_prompt: int = network.dims.n_text_ctx // 2 - 1

    def encode_prompt(self, prompt: str) -> list[int]:
        """The tokens of a prompt's end, as many as can be taken."""
        tokens: list[int] = self.tokenizer.encode(" " + prompt.strip(), disallowed_special=())
        return tokens[-self._longest_prompt :]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without what is no text."""
        return str(self.tokenizer.decode([token for token in tokens if token < self.tokenizer.eot]))


class Whisper:
    """A loaded network."""

    def __init__(self, folder: Path, dtype: str) -> None:
        self._half = dtype == "float16" or (dtype == "auto" and not on_cpu())
        self._dtype = mx.float16 if self._half else mx.float32
        check_folder(folder)
        self._network = load_model(str(folder), dtype=self._dtype)
        # Decoding insists that all weights are of the type it computes in.
        self._network.set_dtype(self._dtype)
        mx.eval(self._network.parameters())
        self.multilingual: bool = self._network.is_multilingual
        self.tokens_per_window: int = self._network.dims.n_audio_ctx

    def spectrogram(self, samples: Samples) -> Spectrogram:
        audio = mx.array(samples).astype(mx.float32) / 32768.0
        frames = log_mel_spectrogram(audio, n_mels=self._network.dims.n_mels, padding=N_SAMPLES)
        mx.eval(frames)
        return Spectrogram(frames, frames.shape[-2] - N_FRAMES)

    def words(self, language: str, translate: bool) -> Words:
        return Words(self._network, language, translate)

    def detect_language(self, window: mx.array) -> str:
        """The code of the language that the window is most likely in."""
        if not self.multilingual:
            return "en"
        probabilities: Mapping[str, float] = self._network.detect_language(window.astype(self._dtype))[1]
        return max(probabilities, key=lambda code: probabilities[code])

    def decode(self, window: mx.array, words: Words, prompt: Sequence[int], temperature: float) -> DecodingResult:
        """Write one window down, once."""
        options = DecodingOptions(
            task=words.task, language=words.language, temperature=temperature, prompt=list(prompt), fp16=self._half
        )
        result = self._network.decode(window.astype(self._dtype), options)
        assert isinstance(result, DecodingResult)
        return result

    def time_words(
        self, segments: list[dict[str, Any]], window: mx.array, words: Words, frames: int, last_speech: float
    ) -> None:
        """Give each segment its "words", and the start and end that follow from them."""
        add_word_timestamps(
            segments=segments,
            model=self._network,
            tokenizer=words.tokenizer,
            mel=window.astype(self._dtype),
            num_frames=frames,
            last_speech_timestamp=last_speech,
        )

    def warm_up(self) -> None:
        """Do once what takes longer the first time: kernels are compiled, and the timing of words is, too."""
        window = self.spectrogram(np.zeros(SAMPLE_RATE, np.int16)).window(0, N_FRAMES)
        self.decode(window, self.words("en", False), (), 0.0)
        dtw(np.zeros((2, 2), np.float64))
        self.release()

    def release(self) -> None:
        """Give memory back that MLX keeps for the next time."""
        mx.clear_cache()


def check_folder(folder: Path) -> None:
    """Raise LoadError unless this is a folder that mlx-whisper loads."""
    advice = (
        "The backend 'whisper' loads conversions for mlx-whisper, such as 'mlx-community/whisper-large-v3-turbo', "
        "or 'demo:whisper-tiny.en'."
    )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{str(folder)!r} has no readable config.json ({error}). {advice}") from error
    missing = sorted(set(ModelDimensions.__dataclass_fields__) - set(config))
    if missing:
        raise LoadError(f"{str(folder / 'config.json')!r} is not Whisper's: it lacks {', '.join(missing)}. {advice}")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise LoadError(f"{str(folder)!r} has neither of {' and '.join(WEIGHTS)}. {advice}")
