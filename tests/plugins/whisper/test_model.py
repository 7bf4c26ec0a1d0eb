"""What the model makes of a request's parameters, and of folders that it cannot load."""

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


def ask(model: Model, kind: type[TranscriptionRequest] = TranscriptionRequest, **more: Any) -> list[Event]:
    request = kind(id="one", model="any", **{"audio": FILE, **more})
    try:
        return run_together(model, [ScheduledRequest(request)])[0]
    finally:
        model.close()


def started(events: list[Event]) -> TranscriptionStarted:
    assert isinstance(events[0], TranscriptionStarted)
    return events[0]


@pytest.mark.parametrize(("language", "name"), [("de", "german"), ("German", "german"), ("FLEMISH", "dutch")])
def test_a_language_is_a_code_or_a_name(multilingual_folder: Path, language: str, name: str) -> None:
    assert started(ask(load(multilingual_folder), language=language)).language == name


def test_the_option_is_for_requests_that_name_no_language(multilingual_folder: Path) -> None:
    assert started(ask(load(multilingual_folder, language="fr"))).language == "french"
    assert started(ask(load(multilingual_folder, language="fr"), language="ja")).language == "japanese"


def test_an_unknown_language_is_refused(multilingual_folder: Path) -> None:
    with pytest.raises(InvalidRequestError, match="'klingon' is none that Whisper knows"):
        ask(load(multilingual_folder), language="klingon")
    with pytest.raises(LoadError, match="--language 'klingon'"):
        load(multilingual_folder, language="klingon")


def test_an_english_model_refuses_other_languages(tiny_folder: Path) -> None:
    assert started(ask(load(tiny_folder), language="english")).language == "english"
    with pytest.raises(InvalidRequestError, match="knows English only, not 'german'") as refused:
        ask(load(tiny_folder), language="de")
    assert refused.value.param == "language"


def test_transcribing_and_translating_begin_differently(multilingual: Whisper) -> None:
    ours, theirs = (multilingual.words("de", translate=each).tokenizer for each in (False, True))
    assert ours.sot_sequence == (ours.sot, ours.to_language_token("de"), ours.transcribe)
    assert theirs.sot_sequence == (ours.sot, ours.to_language_token("de"), ours.translate)


def test_a_translation_is_not_the_transcript(multilingual_folder: Path) -> None:
    def text(kind: type[TranscriptionRequest]) -> str:
        mx.random.seed(0)
        events = ask(load(multilingual_folder), kind, language="de")
        return "".join(event.text for event in events if isinstance(event, Segment))

    assert text(TranscriptionRequest) != text(TranslationRequest)


def test_only_the_end_of_a_long_prompt_counts(tiny_folder: Path) -> None:
    def prompt_tokens(prompt: str | None) -> int:
        return started(ask(load(tiny_folder), prompt=prompt)).prompt_tokens

    # This network's context has 16 places.
    assert prompt_tokens("one two three") == prompt_tokens(None) + 3
    assert prompt_tokens("one two three " * 100) == prompt_tokens(None) + 7


def test_a_temperature_is_used_as_it_is(tiny_folder: Path) -> None:
    events = ask(load(tiny_folder), temperature=0.7)
    assert {event.temperature for event in events if isinstance(event, Segment)} == {0.7}


def test_words_are_timed_only_when_asked_for(tiny_folder: Path) -> None:
    silent = {"logprob_threshold": -1000, "no_speech_threshold": 1, "compression_ratio_threshold": 1000}
    timed = [event for event in ask(load(tiny_folder, **silent), words=True) if isinstance(event, Segment)]
    assert "".join(word.word for event in timed for word in event.words) == "".join(event.text for event in timed)
    plain = [event for event in ask(load(tiny_folder, **silent)) if isinstance(event, Segment)]
    assert [event.words for event in plain] == [()] * len(plain)


def test_the_file_may_be_so_large(tiny_folder: Path) -> None:
    with pytest.raises(RequestTooLargeError, match=r"0\.0 MB; this model takes 0\.001 MB \(--max-audio-mb\)"):
        ask(load(tiny_folder, max_audio_mb=0.001))


def test_the_audio_may_be_so_long(tiny_folder: Path) -> None:
    with pytest.raises(RequestTooLargeError, match=r"file: the audio is longer than the limit of 2.4 seconds"):
        ask(load(tiny_folder, max_audio_minutes=0.04))


def test_a_long_audio_shows_signs_of_life_and_progress(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    events = ask(load(tiny_folder), audio=wav(tone(70, 8000), 8000))
    signs = [event for event in events if isinstance(event, Progress)]
    assert [sign.total for sign in signs] == [3500] * len(signs)
    done = [sign.done for sign in signs]
    assert done == sorted(done)
    assert done[-1] == 3500
    assert isinstance(events[-1], Finished)
    lines = [record.getMessage() for record in caplog.records if record.name == "mlx_host_whisper.model"]
    assert lines[-1] == "one-0: 70 of 70 s of audio are transcribed"
    assert len(lines) == 3


def test_a_short_audio_logs_no_progress(tiny_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ask(load(tiny_folder))
    assert [record for record in caplog.records if record.name == "mlx_host_whisper.model"] == []


def test_half_precision_is_computed_in_half_precision(tiny_folder: Path) -> None:
    whisper = Whisper(tiny_folder, "float16")
    audio = whisper.spectrogram(tone(1))
    result = whisper.decode(audio.window(0, audio.content), whisper.words("en", False), (), 0.0)
    assert result.audio_features.dtype == mx.float16


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no readable config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "no readable config.json"),
        (lambda folder: (folder / "config.json").write_text(json.dumps({"d_model": 8})), "it lacks n_audio_ctx"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "neither of weights.safetensors and weights.npz"),
    ],
    ids=["no config", "broken config", "another's config", "no weights"],
)
def test_another_folder_is_refused_with_advice(tiny_folder: Path, tmp_path: Path, spoil: Any, words: str) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "spoilt")
    spoil(folder)
    with pytest.raises(LoadError, match=words) as refused:
        load(folder)
    assert "demo:whisper-tiny.en" in str(refused.value)
