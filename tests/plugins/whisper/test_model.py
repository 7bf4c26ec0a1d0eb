"""Request parameters, limits, progress, and folders that cannot be loaded."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_host.backend import LoadContext, Model
from mlx_host.errors import InvalidRequestError, LoadError, RequestTooLargeError
from mlx_host.events import Event, Finished, Progress, Segment, TranscriptionStarted
from mlx_host.requests import TranscriptionRequest, TranslationRequest
from mlx_host.testing.model_contract import ScheduledRequest, run_together
from mlx_host_whisper.mlx_whisper_api import Whisper
from mlx_host_whisper.model import load_model
from mlx_host_whisper.options import WhisperOptions

from tests.support.speech import sample, tone, wav

FILE = sample("capital.ogg")


def load(folder: Path, **options: Any) -> Model:
    def no_progress(stage: str, done: int, total: int, note: str = "") -> None:
        pass

    return load_model(LoadContext(str(folder), folder, WhisperOptions(**options), no_progress))


def transcribe(
    model: Model, request_type: type[TranscriptionRequest] = TranscriptionRequest, **fields: Any
) -> list[Event]:
    """Process one request and close the model."""
    request = request_type(id="one", model="any", **{"audio": FILE, **fields})
    try:
        return run_together(model, [ScheduledRequest(request)])[0]
    finally:
        model.close()


def started_event(events: list[Event]) -> TranscriptionStarted:
    assert isinstance(events[0], TranscriptionStarted)
    return events[0]


@pytest.mark.parametrize(("language", "name"), [("de", "german"), ("German", "german"), ("FLEMISH", "dutch")])
def test_languages_are_accepted_as_codes_and_names(multilingual_folder: Path, language: str, name: str) -> None:
    assert started_event(transcribe(load(multilingual_folder), language=language)).language == name


def test_the_language_option_is_the_default_of_requests(multilingual_folder: Path) -> None:
    assert started_event(transcribe(load(multilingual_folder, language="fr"))).language == "french"
    assert started_event(transcribe(load(multilingual_folder, language="fr"), language="ja")).language == "japanese"


def test_an_unknown_language_is_rejected(multilingual_folder: Path) -> None:
    with pytest.raises(InvalidRequestError, match="'klingon'"):
        transcribe(load(multilingual_folder), language="klingon")
    with pytest.raises(LoadError, match=r"--language: .*'klingon'"):
        load(multilingual_folder, language="klingon")


def test_an_english_only_model_rejects_other_languages(tiny_folder: Path) -> None:
    assert started_event(transcribe(load(tiny_folder), language="english")).language == "english"
    with pytest.raises(InvalidRequestError, match=r"'de' \(german\)") as error:
        transcribe(load(tiny_folder), language="de")
    assert error.value.param == "language"


def test_the_task_sets_the_start_tokens(multilingual: Whisper) -> None:
    transcription = multilingual.task_tokenizer("de", translate=False).tokenizer
    translation = multilingual.task_tokenizer("de", translate=True).tokenizer
    start = (transcription.sot, transcription.to_language_token("de"))
    assert transcription.sot_sequence == (*start, transcription.transcribe)
    assert translation.sot_sequence == (*start, transcription.translate)


def test_translation_and_transcription_differ(multilingual_folder: Path) -> None:
    def text(request_type: type[TranscriptionRequest]) -> str:
        mx.random.seed(0)
        events = transcribe(load(multilingual_folder), request_type, language="de")
        return "".join(event.text for event in events if isinstance(event, Segment))

    assert text(TranscriptionRequest) != text(TranslationRequest)


def test_a_long_prompt_is_truncated_to_its_last_tokens(tiny_folder: Path) -> None:
    def prompt_tokens(prompt: str | None) -> int:
        return started_event(transcribe(load(tiny_folder), prompt=prompt)).prompt_tokens

    # The context of this model has 16 tokens.
    assert prompt_tokens("one two three") == prompt_tokens(None) + 3
    assert prompt_tokens("one two three " * 100) == prompt_tokens(None) + 7


def test_a_nonzero_temperature_is_used_without_fallback(tiny_folder: Path) -> None:
    events = transcribe(load(tiny_folder), temperature=0.7)
    assert {event.temperature for event in events if isinstance(event, Segment)} == {0.7}


def test_words_are_returned_only_on_request(tiny_folder: Path) -> None:
    no_fallback = {"logprob_threshold": -1000, "no_speech_threshold": 1, "compression_ratio_threshold": 1000}
    timed = [
        event
        for event in transcribe(load(tiny_folder, **no_fallback), word_timestamps=True)
        if isinstance(event, Segment)
    ]
    assert "".join(word.word for event in timed for word in event.words) == "".join(event.text for event in timed)
    plain = [event for event in transcribe(load(tiny_folder, **no_fallback)) if isinstance(event, Segment)]
    assert [event.words for event in plain] == [()] * len(plain)


def test_a_file_above_the_size_limit_is_rejected(tiny_folder: Path) -> None:
    with pytest.raises(RequestTooLargeError, match=r"0\.0 MB.*0\.001 MB \(--max-audio-mb\)"):
        transcribe(load(tiny_folder, max_audio_mb=0.001))


def test_audio_above_the_length_limit_is_rejected(tiny_folder: Path) -> None:
    with pytest.raises(RequestTooLargeError, match=r"file: .*2\.4 seconds"):
        transcribe(load(tiny_folder, max_audio_minutes=0.04))


def test_long_audio_emits_and_logs_progress(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    events = transcribe(load(tiny_folder), audio=wav(tone(70, 8000), 8000))
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.total for event in progress] == [3500] * len(progress)
    done = [event.done for event in progress]
    assert done == sorted(done)
    assert done[-1] == 3500
    assert isinstance(events[-1], Finished)
    lines = [record.getMessage() for record in caplog.records if record.name == "mlx_host_whisper.model"]
    assert lines[-1] == "one-0: transcribed 70 of 70 s of audio"
    assert len(lines) == 3


def test_short_audio_logs_no_progress(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    transcribe(load(tiny_folder))
    assert [record for record in caplog.records if record.name == "mlx_host_whisper.model"] == []


def test_float16_models_compute_in_float16(tiny_folder: Path) -> None:
    whisper = Whisper(tiny_folder, "float16")
    audio = whisper.spectrogram(tone(1))
    result = whisper.decode(audio.window(0, audio.content), whisper.task_tokenizer("en", False), (), 0.0)
    assert result.audio_features.dtype == mx.float16


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no readable config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "no readable config.json"),
        (lambda folder: (folder / "config.json").write_text(json.dumps({"d_model": 8})), "missing n_audio_ctx"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "no weights.safetensors or weights.npz"),
    ],
    ids=["no config", "invalid config", "config of another model", "no weights"],
)
def test_an_unsuitable_folder_is_rejected_with_a_hint(
    tiny_folder: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(LoadError, match=message) as error:
        load(folder)
    assert "demo:whisper-tiny.en" in str(error.value)
