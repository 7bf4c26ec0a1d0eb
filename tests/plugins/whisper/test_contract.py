"""The backend fulfils the Model contract, tested with a random Whisper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mlx_host.requests import Request, TranscriptionRequest, TranslationRequest
from mlx_host.testing import ModelContract
from mlx_host_whisper.plugin import WHISPER

from tests.support.speech import sample, tone, wav
from tests.support.tiny_whisper import write_tiny_whisper


def request(audio: bytes, **fields: object) -> TranscriptionRequest:
    return TranscriptionRequest(id="contract", model="contract", audio=audio, **fields)  # type: ignore[arg-type]


class TestWhisper(ModelContract):
    backend = WHISPER
    requests = (request(sample("capital.ogg")), request(wav(tone(0.5)), prompt="A short tone"))
    # With the default thresholds, the random model would always fall back to random sampling.
    options = {"logprob_threshold": -1000, "compression_ratio_threshold": 1000, "no_speech_threshold": 1}  # noqa: RUF012

    @classmethod
    def path(cls, empty: Path) -> Path:
        return write_tiny_whisper(empty)

    def unsuitable(self) -> Sequence[Request]:
        return [
            request(b""),
            request(b"garbage"),
            request(wav(np.zeros(100, np.int16))),
            request(sample("capital.ogg"), language="klingon"),
            request(sample("capital.ogg"), language="de"),
            request(sample("capital.ogg"), prompt="<|endoftext|> " * 500),
            TranslationRequest(id="contract", model="contract", audio=sample("capital.mp3")),
        ]
