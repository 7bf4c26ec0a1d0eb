"""Tests the API with the contract tests, and its endpoint with a fake service."""

import asyncio
from typing import ClassVar

from mlx_host.errors import EngineError
from mlx_host.events import Event, Finished, Started
from mlx_host.testing import ApiContract, FakeService, HttpResponse, request
from mlx_host_toy_speech import AudioChunk, SpeechSettings, register_apis

(SPEECH,) = register_apis()
PATH = "/v1/audio/speech"


class TestSpeech(ApiContract):
    api = SPEECH
    arguments = ("--backend", "tones")
    path = PATH
    body: ClassVar = {"input": "Hello there. How are you?"}
    stream: ClassVar = {}
    invalid = ({"input": ""}, {"input": "x" * 5000}, {"voice": "loud"}, {"response_format": "mp3"})


def speak(service: FakeService, **fields: object) -> HttpResponse:
    settings = SpeechSettings(max_characters=10)
    return asyncio.run(request(SPEECH, service, "POST", PATH, {"input": "Hi.", **fields}, settings=settings))


def test_audio_is_streamed() -> None:
    service = FakeService([[Started(prompt_tokens=3), AudioChunk(b"ab")], AudioChunk(b"cd"), Finished()])
    response = speak(service, response_format="pcm", speed=2)
    assert (response.status, response.body, response.complete) == (200, b"abcd", True)
    assert response.headers["x-mlx-host-ignored"] == "speed"
    assert service.replies[0].completed


def test_a_wav_file_has_a_header() -> None:
    response = speak(FakeService([Started(prompt_tokens=3), AudioChunk(b"ab"), Finished()]))
    assert response.media_type == "audio/wav"
    assert response.body[:4] + response.body[8:16] + response.body[44:] == b"RIFFWAVEfmt ab"


def test_a_model_that_fails_aborts_the_response() -> None:
    events: list[Event | Exception] = [Started(prompt_tokens=3), AudioChunk(b"ab"), EngineError("No more tones.")]
    assert not speak(FakeService(events)).complete


def test_input_above_max_characters_is_rejected() -> None:
    response = speak(FakeService(), input="12345678901")
    assert response.status == 400
    assert response.json()["error"]["param"] == "input"
