"""Compares transcripts with those of mlx_whisper.transcribe; also runs as `python -m …comparison FOLDER SAMPLE`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_host.events import Segment
from mlx_host_media.audio import AudioLimits, Samples
from mlx_host_media.audio_decoder import decode_audio
from mlx_host_whisper.mlx_whisper_api import Whisper
from mlx_host_whisper.transcriber import DecodingSettings, TimestampClamp, Transcriber
from mlx_whisper import transcribe

from tests.support.speech import SAMPLE_RATE, sample

ONE_HOUR = AudioLimits(max_seconds=3600)


def reference_transcript(folder: Path, samples: Samples, **options: Any) -> Mapping[str, Any]:
    """Transcribe with mlx_whisper.transcribe."""
    mx.random.seed(0)
    audio = samples.astype(np.float32) / 32768
    return dict(transcribe(audio, path_or_hf_repo=str(folder), fp16=False, **options))


def transcribe_segments(
    whisper: Whisper, samples: Samples, settings: DecodingSettings, prompt: str | None, word_timestamps: bool
) -> list[Segment]:
    """Transcribe with Transcriber."""
    mx.random.seed(0)
    tokenizer = whisper.task_tokenizer("en", translate=False)
    transcriber = Transcriber(whisper, whisper.spectrogram(samples), tokenizer, settings, prompt, word_timestamps)
    return [segment for segment in transcriber if segment is not None]


def assert_same(segments: Sequence[Segment], expected: Mapping[str, Any], seconds: float) -> None:
    assert "".join(segment.text for segment in segments) == expected["text"]
    clamp, word_clamp = TimestampClamp(seconds), TimestampClamp(seconds)
    for actual, reference in zip(segments, expected["segments"], strict=True):
        assert (actual.start, actual.end) == clamp.clamp(reference["start"], reference["end"])
        assert (actual.seek, actual.text) == (reference["seek"], reference["text"])
        assert list(actual.token_ids) == reference["tokens"]
        assert actual.temperature == reference["temperature"]
        for name in ("avg_logprob", "compression_ratio", "no_speech_prob"):
            if math.isfinite(reference[name]):
                assert getattr(actual, name) == reference[name]
        words = [(word["word"], *word_clamp.clamp(word["start"], word["end"])) for word in reference.get("words", [])]
        assert [(word.word, word.start, word.end) for word in actual.words] == words


def main(folder: Path, name: str) -> None:
    """Compare the transcripts of a real model for a sample of more than one window."""
    samples = decode_audio(sample(name), SAMPLE_RATE, ONE_HOUR)
    segments = transcribe_segments(Whisper(folder, "auto"), samples, DecodingSettings(), None, False)
    assert len({segment.seek for segment in segments}) > 1
    assert_same(segments, reference_transcript(folder, samples), len(samples) / SAMPLE_RATE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
