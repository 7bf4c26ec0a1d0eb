"""Real speech on the real server with OpenAI's client: Whisper tiny.en transcribes it correctly, in every format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pysubs2
import pytest
from mlx_host_media.audio import AudioLimits
from mlx_host_media.audio_decoder import decode_audio

from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.speech import CAPITAL, NEWS, SAMPLE_RATE, SAMPLES, normalized_words, sample, wav

NEWS_WORDS = normalized_words(" ".join(NEWS))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "whisper", "--model", "demo:whisper-tiny.en", *FAST_BLAS) as running:
        yield running


def transcribe(client: openai.OpenAI, name: str, **more: Any) -> Any:
    with (SAMPLES / name).open("rb") as file:
        return client.audio.transcriptions.create(model="any", file=file, **more)


@pytest.fixture(scope="module")
def news(client: openai.OpenAI) -> Any:
    """The longer sample as verbose JSON."""
    return transcribe(client, "news.ogg", response_format="verbose_json")


def test_wav_to_json(client: openai.OpenAI) -> None:
    response = transcribe(client, "capital.wav")
    assert response.text == CAPITAL
    assert response.usage.type == "duration"
    assert response.usage.seconds == pytest.approx(3.04, abs=0.01)


def test_mp3_to_text(client: openai.OpenAI) -> None:
    response = transcribe(client, "capital.mp3", response_format="text")
    assert response.endswith("\n")
    assert normalized_words(response) == normalized_words(CAPITAL)


def test_m4a_to_srt(client: openai.OpenAI) -> None:
    response = transcribe(client, "capital.m4a", response_format="srt")
    (cue,) = pysubs2.SSAFile.from_string(response, "srt")
    assert normalized_words(cue.plaintext) == normalized_words(CAPITAL)
    assert 0 <= cue.start < cue.end <= 3200


def test_flac_to_vtt(client: openai.OpenAI) -> None:
    response = transcribe(client, "capital.flac", response_format="vtt")
    assert response.startswith("WEBVTT\n\n")
    (cue,) = pysubs2.SSAFile.from_string(response, "vtt")
    assert normalized_words(cue.plaintext) == normalized_words(CAPITAL)
    assert 0 <= cue.start < cue.end <= 3200


def test_ogg_to_words(client: openai.OpenAI) -> None:
    response = transcribe(client, "capital.ogg", response_format="verbose_json", timestamp_granularities=["word"])
    assert response.segments is None
    assert normalized_words(" ".join(word.word for word in response.words)) == normalized_words(CAPITAL)


def test_webm_to_a_stream(client: openai.OpenAI) -> None:
    events = list(transcribe(client, "capital.webm", stream=True))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert events[0].delta == events[1].text == CAPITAL


def test_speech_between_silence_and_noise_is_found(client: openai.OpenAI) -> None:
    response = transcribe(
        client, "in-noise.ogg", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    words = normalized_words(response.text)
    assert [word for word in words if word in ("capital", "france", "paris")] == ["capital", "france", "paris"]
    assert len(words) <= len(normalized_words(CAPITAL)) + 1
    # Five seconds of silence and noise come first, six last.
    assert 4 < response.words[0].start < response.words[-1].end < 9
    assert response.segments[0].start >= 4
    times = [time for word in response.words for time in (word.start, word.end)]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("silences", "starts"), [((12, 0), [12.0]), ((0, 36), [0.0, 42.9]), ((7, 40), [7.0, 53.9])], ids=str
)
def test_no_sentence_is_lost_next_to_a_long_silence(
    client: openai.OpenAI, silences: tuple[int, int], starts: list[float]
) -> None:
    speech = decode_audio(sample("news.ogg"), SAMPLE_RATE, AudioLimits(max_seconds=60))[: round(6.9 * SAMPLE_RATE)]
    before, between = (np.zeros(seconds * SAMPLE_RATE, np.int16) for seconds in silences)
    parts = [before, speech, between, speech] if len(between) else [before, speech]
    file = ("speech.wav", wav(np.concatenate(parts)))
    response = client.audio.transcriptions.create(model="any", file=file, response_format="verbose_json")
    spoken = normalized_words(" ".join(NEWS[:2]))
    assert normalized_words(response.text) == spoken * len(starts)
    times = [(segment.start, segment.end) for segment in response.segments or ()]
    for start in starts:
        # A second of silence is kept around speech.
        assert any(start - 1.1 <= begin <= start + 1.1 for begin, _ in times)
        assert all(not (begin < start - 1.1 < end) for begin, end in times)
    assert times[-1][1] <= response.duration


def test_long_speech_is_transcribed_in_order(news: Any) -> None:
    assert news.task == "transcribe"
    assert news.language == "english"
    assert news.duration == pytest.approx(32.33, abs=0.01)
    assert news.text.strip() == news.text
    words = normalized_words(news.text)
    assert words == NEWS_WORDS
    assert normalized_words(" ".join(segment.text for segment in news.segments)) == words
    assert [segment.id for segment in news.segments] == list(range(len(news.segments)))
    assert len(news.segments) > 2
    times = [time for segment in news.segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= news.duration
    assert {segment.seek for segment in news.segments} > {0}
    for segment in news.segments:
        assert segment.tokens
        assert segment.avg_logprob < 0 < segment.compression_ratio
        assert 0 <= segment.no_speech_prob <= 1


def test_long_speech_streams_the_same_text(client: openai.OpenAI, news: Any) -> None:
    events = list(transcribe(client, "news.ogg", stream=True))
    deltas = [event.delta for event in events[:-1]]
    assert len(deltas) > 2
    assert all(event.type == "transcript.text.delta" for event in events[:-1])
    done = events[-1]
    assert done.type == "transcript.text.done"
    assert "".join(deltas) == done.text == news.text
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    # 20 ms of audio are a token.
    assert done.usage.input_tokens == pytest.approx(news.duration * 50, abs=1)
    assert done.usage.output_tokens == sum(len(segment.tokens) for segment in news.segments)


def test_long_speech_logs_its_progress(server: ServerProcess, news: Any) -> None:
    last = server.wait_for_line("transcribed 32 of 32 s of audio")
    # Logged by the worker process under its logger's name, once.
    assert "mlx_host_whisper.model: audio-" in last
    assert last.count("mlx_host_whisper.model") == 1
    assert any("of 32 s of audio" in line and "32 of 32" not in line for line in server.lines)


# The SDK has deprecated this method.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_english_is_translated_to_itself(client: openai.OpenAI) -> None:
    with (SAMPLES / "capital.wav").open("rb") as file:
        response = client.audio.translations.create(model="any", file=file, response_format="verbose_json")
    assert response.text == CAPITAL
    assert response.language == "english"
    assert response.model_extra is not None
    assert response.model_extra["task"] == "translate"
