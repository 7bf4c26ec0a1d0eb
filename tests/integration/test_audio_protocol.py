"""The protocol of the audio endpoints: forms, rejections, limits, cancellation; the model is a fast random Whisper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

from tests.support.client import error_of, post, queue, wait_for_queue
from tests.support.server import ServerProcess, running_server
from tests.support.speech import FORMATS, sample, tone, wav
from tests.support.tiny_whisper import MULTILINGUAL, write_tiny_whisper

TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
FILE = sample("capital.ogg")
LARGE = 200_000
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder for temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[ServerProcess]:
    # This model is never confident and retries each window at every temperature, so it is slow enough to cancel.
    folder = write_tiny_whisper(tmp_path_factory.mktemp("tiny"), MULTILINGUAL, seed=1, tokens=16)
    limits = ["--max-audio-mb", str(LARGE / MEGABYTE), "--max-audio-minutes", "10"]
    with running_server(
        *("--backend", "whisper", "--model", str(folder), "--served-model-name", "tiny", *limits),
        env={"TMPDIR": str(temporary)},
    ) as running:
        yield running


def upload(
    server: ServerProcess,
    fields: Mapping[str, Any] = {},
    file: bytes | None = FILE,
    path: str = TRANSCRIPTIONS,
) -> httpx2.Response:
    data = {"model": "tiny", **fields}
    if file is not None:
        form = {"file": ("speech", file)}
        return httpx2.post(f"{server.url}{path}", data=data, files=form, timeout=60, verify=False)
    # Without a file the client would send no multipart form.
    parts = {name: (None, str(value)) for name, value in data.items()}
    return httpx2.post(f"{server.url}{path}", files=parts, timeout=60, verify=False)


# Accepted requests


def test_all_parameters_of_the_sdk_are_accepted(client: openai.OpenAI) -> None:
    response: Any = client.audio.transcriptions.create(
        model="tiny",
        file=("a name without an extension", FILE),
        language="de",
        prompt="Über allen Gipfeln",
        temperature=0.4,
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    assert response.language == "german"
    assert response.duration == pytest.approx(3.04, abs=0.01)
    assert [segment.temperature for segment in response.segments] == [0.4] * len(response.segments)
    assert response.words is not None


def test_the_prompt_is_counted_in_the_tokens(server: ServerProcess) -> None:
    def input_tokens(**fields: str) -> int:
        *_, done = stream_of(upload(server, {"stream": "true", **fields}))
        tokens: int = done["usage"]["input_tokens"]
        return tokens

    assert input_tokens(prompt="one two three") == input_tokens() + 3


def stream_of(response: httpx2.Response) -> list[Any]:
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_translation_is_another_task_of_the_model(server: ServerProcess) -> None:
    whole = upload(server, {"response_format": "verbose_json", "language": "fr"}, path=TRANSLATIONS).json()
    assert (whole["task"], whole["language"]) == ("translate", "french")
    assert upload(server, {"response_format": "verbose_json"}).json()["task"] == "transcribe"


def test_words_only_omits_segments(server: ServerProcess) -> None:
    fields = {"response_format": "verbose_json"}
    assert "words" not in upload(server, fields).json()
    words = upload(server, {**fields, "timestamp_granularities[]": "word"}).json()
    assert "words" in words
    assert "segments" not in words
    both = upload(server, {**fields, "timestamp_granularities[]": ["word", "segment"]}).json()
    assert {"words", "segments"} <= set(both)


@pytest.mark.parametrize(
    ("response_format", "kind"),
    [
        ("json", "application/json"),
        ("verbose_json", "application/json"),
        ("text", "text/plain; charset=utf-8"),
        ("srt", "application/x-subrip; charset=utf-8"),
        ("vtt", "text/vtt; charset=utf-8"),
    ],
)
def test_each_format_has_its_content_type(server: ServerProcess, response_format: str, kind: str) -> None:
    assert upload(server, {"response_format": response_format}).headers["content-type"] == kind


def test_silence_is_an_empty_transcript_and_valid_json(server: ServerProcess) -> None:
    whole = upload(server, {"response_format": "verbose_json"}, wav(tone(1) * 0))
    assert "NaN" not in whole.text
    assert "Infinity" not in whole.text
    assert whole.json()["duration"] == 1.0


def test_fields_without_effect_are_listed(server: ServerProcess) -> None:
    response = upload(server, {"chunking_strategy": "auto", "user": "user-1", "language": ""})
    assert response.headers["x-mlx-host-ignored"] == "chunking_strategy, user"


# Rejected requests


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"response_format": "diarized_json"}, "response_format", "'verbose_json'"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "requires response_format 'verbose_json'"),
        ({"timestamp_granularities[]": "letter", "response_format": "verbose_json"}, "timestamp_granularities", "word"),
        ({"stream": "true", "response_format": "srt"}, "stream", "'srt'"),
        ({"stream": "perhaps"}, "stream", "boolean"),
        ({"temperature": "2"}, "temperature", "at most 1"),
        ({"temperature": "nan"}, "temperature", "finite"),
        ({"temperature": "warm"}, "temperature", "number"),
        ({"language": "klingon"}, "language", "'klingon'"),
        ({"include[]": "logprobs"}, "include", "not supported"),
        ({"chunking_strategy[type]": "server_vad"}, "chunking_strategy", "'auto'"),
        ({"known_speaker_names[]": "Ann"}, "known_speaker_names", "not supported"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(
    server: ServerProcess, fields: Mapping[str, str], param: str, words: str
) -> None:
    error = error_of(upload(server, fields), 400)
    assert error["param"].startswith(param)
    assert words in error["message"]


def test_other_bodies_are_rejected(server: ServerProcess) -> None:
    assert "multipart/form-data" in error_of(post(server, {"file": "x"}, TRANSCRIPTIONS), 415)["message"]
    kind = {"content-type": "multipart/form-data"}
    unbounded = httpx2.post(f"{server.url}{TRANSCRIPTIONS}", content=b"x", headers=kind)
    assert "no boundary" in error_of(unbounded, 400)["message"]
    bounded = {"content-type": "multipart/form-data; boundary=b"}
    cut = httpx2.post(f"{server.url}{TRANSCRIPTIONS}", content=b"--b\r\nContent-Disp", headers=bounded)
    assert "incomplete" in error_of(cut, 400)["message"]
    strange = httpx2.post(f"{server.url}{TRANSCRIPTIONS}", content=b"x" * 100, headers=bounded)
    assert error_of(strange, 400)["type"] == "invalid_request_error"


def test_a_form_needs_a_file(server: ServerProcess) -> None:
    assert error_of(upload(server, file=None), 400)["param"] == "file"
    assert error_of(upload(server, {"file": "audio"}, None), 400)["param"] == "file"


def test_unreadable_files_are_rejected(server: ServerProcess) -> None:
    assert "is empty" in error_of(upload(server, file=b""), 400)["message"]
    assert "WAV, MP3, M4A, FLAC, OGG or WebM" in error_of(upload(server, file=b"garbage" * 100), 400)["message"]
    for suffix in FORMATS:
        whole = sample(f"capital.{suffix}")
        assert error_of(upload(server, file=whole[: len(whole) // 2]), 400)["code"] == "invalid_audio"
    # A stream is rejected in the same way, as nothing has been sent yet.
    assert error_of(upload(server, {"stream": "true"}, b"garbage"), 400)["param"] == "file"


def test_too_large_files_are_rejected(server: ServerProcess) -> None:
    error = error_of(upload(server, file=bytes(LARGE + 1)), 413)
    assert "--max-audio-mb" in error["message"]
    assert error["param"] == "file"


def test_too_long_audio_is_rejected(server: ServerProcess) -> None:
    # At a low sample rate, eleven minutes are a small file.
    error = error_of(upload(server, file=wav(tone(11 * 60, 100), 100)), 413)
    assert error["code"] == "audio_too_long"
    assert "10 minutes" in error["message"]


def test_an_unsupported_task_names_the_supported_ones_and_a_backend(server: ServerProcess) -> None:
    error = error_of(post(server, {"messages": [{"role": "user", "content": "Hello"}]}), 400)
    assert error["code"] == "unsupported_request"
    assert "transcription, translation" in error["message"]
    with running_server("--backend", "scripted") as language_model:
        error = error_of(upload(language_model), 400)
    assert error["code"] == "unsupported_request"
    assert "chat" in error["message"]
    assert error["message"].endswith("Backends that support them: whisper.")


def test_200_invalid_files_leave_nothing_behind(server: ServerProcess, temporary: Path) -> None:
    whole = sample("capital.mp3")
    kinds = [(b"", 400), (b"garbage" * 1000, 400), (whole[: len(whole) // 2], 400), (bytes(LARGE + 1), 413)]
    host = psutil.Process(server.process.pid)

    def all_processes() -> list[psutil.Process]:
        return [host, *host.children(recursive=True)]

    def send_invalid_ones(count: int) -> None:
        for number in range(count):
            file, status = kinds[number % len(kinds)]
            error_of(upload(server, file=file), status)

    send_invalid_ones(40)
    before = all_processes()
    memory = sum(process.memory_info().rss for process in before)
    files = sum(process.num_fds() for process in before)
    send_invalid_ones(200)
    assert all_processes() == before
    assert sum(process.num_fds() for process in before) <= files + 4
    assert sum(process.memory_info().rss for process in before) < memory + 20 * MEGABYTE
    assert queue(server) == (0, 0)
    assert upload(server).status_code == 200
    assert [path for path in temporary.iterdir() if path.is_file()] == []


# Cancellation and limits


LONG = wav(tone(599, 100), 100)


@contextmanager
def streaming(server: ServerProcess) -> Iterator[None]:
    """A client that reads the beginning of a long transcript and disconnects on exit."""
    with httpx2.stream(
        "POST",
        f"{server.url}{TRANSCRIPTIONS}",
        data={"stream": "true"},
        files={"file": ("long.wav", LONG)},
        timeout=60,
    ) as response:
        pieces = response.iter_text()
        assert "transcript.text.delta" in next(pieces)
        yield


def finished(server: ServerProcess) -> bool:
    return any("599 of 599 s of audio" in line for line in server.lines)


def test_disconnecting_from_a_stream_cancels_the_request(server: ServerProcess) -> None:
    with streaming(server):
        assert queue(server) == (1, 0)
    wait_for_queue(server, 0)
    server.wait_for_line("outcome=cancelled")
    assert not finished(server)


def test_disconnecting_before_the_response_cancels_the_request(server: ServerProcess) -> None:
    with httpx2.Client() as client, ThreadPoolExecutor() as pool:
        url, files = f"{server.url}{TRANSCRIPTIONS}", {"file": ("long.wav", LONG)}
        request = pool.submit(client.post, url, files=files, timeout=httpx2.Timeout(60, read=1))
        wait_for_queue(server, 1)
        with pytest.raises(httpx2.TimeoutException):
            request.result()
    wait_for_queue(server, 0)
    assert not finished(server)
    assert upload(server).status_code == 200


def test_one_file_is_transcribed_at_a_time(server: ServerProcess) -> None:
    with ThreadPoolExecutor() as pool:
        with streaming(server):
            second = pool.submit(upload, server)
            wait_for_queue(server, 1, waiting=1)
        assert second.result().status_code == 200
