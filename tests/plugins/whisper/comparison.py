"""Compares transcripts with those of mlx_whisper.transcribe; `python -m …comparison FOLDER SAMPLE` does so once."""

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
from mlx_host_whisper.transcript import Clock, Rules, Transcript
from mlx_whisper import transcribe

from tests.support.speech import SAMPLE_RATE, sample

ANY_LENGTH = AudioLimits(max_seconds=3600)


def reference(folder: Path, samples: Samples, **more: Any) -> Mapping[str, Any]:
    mx.random.seed(0)
    audio = samples.astype(np.float32) / 32768
    return dict(transcribe(audio, path_or_hf_repo=str(folder), fp16=False, **more))


def ours(whisper: Whisper, samples: Samples, rules: Rules, prompt: str | None, words: bool) -> list[Segment]:
    mx.random.seed(0)
    written = whisper.words("en", translate=False)
    transcript = Transcript(whisper, whisper.spectrogram(samples), written, rules, prompt, words)
    return [segment for segment in transcript if segment is not None]


def assert_same(segments: Sequence[Segment], expected: Mapping[str, Any], seconds: float) -> None:
    assert "".join(segment.text for segment in segments) == expected["text"]
    clock, word_clock = Clock(seconds), Clock(seconds)
    for ours, theirs in zip(segments, expected["segments"], strict=True):
        assert (ours.start, ours.end) == clock.put_right(theirs["start"], theirs["end"])
        assert (ours.seek, ours.text, list(ours.token_ids)) == (theirs["seek"], theirs["text"], theirs["tokens"])
        assert ours.temperature == theirs["temperature"]
        for name in ("avg_logprob", "compression_ratio", "no_speech_prob"):
            if math.isfinite(theirs[name]):
                assert getattr(ours, name) == theirs[name]
        words = [(word["word"], *word_clock.put_right(word["start"], word["end"])) for word in theirs.get("words", [])]
        assert [(word.word, word.start, word.end) for word in ours.words] == words


def main(folder: Path, name: str) -> None:
    """Compare them on a real network, which must need more than one window."""
    samples = decode_audio(sample(name), SAMPLE_RATE, ANY_LENGTH)
    segments = ours(Whisper(folder, "auto"), samples, Rules(), None, False)
    assert len({segment.seek for segment in segments}) > 1
    assert_same(segments, reference(folder, samples), len(samples) / 16_000)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
