"""The example API, installed as a distribution into a separate environment."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.client import sdk
from tests.support.command import environment, mlx_host
from tests.support.plugin_projects import install_projects
from tests.support.server import ServerProcess, running_server

PROJECT = Path(__file__).parents[2] / "examples" / "third-party-api"
TEXT = "Hello there. How are you?"
SAMPLES = 24_000 // 20 * len(TEXT)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_projects(tmp_path_factory.mktemp("installed"), [PROJECT])


@pytest.fixture(scope="module")
def server(installed: Path) -> Iterator[ServerProcess]:
    with running_server("--backend", "tones", env=environment(plugins=[installed])) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with sdk(server) as client:
        yield client


def test_the_example_s_tests_pass(installed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", "."]
    env = environment(plugins=[installed])
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_openais_client_streams_speech(client: openai.OpenAI) -> None:
    speech = client.audio.speech.with_streaming_response
    with speech.create(model="tones", voice="low", input=TEXT, response_format="pcm") as response:
        pieces = list(response.iter_bytes())
    samples = struct.unpack(f"<{SAMPLES}h", b"".join(pieces))
    assert max(samples) > 7000
    with speech.create(model="tones", voice="high", input=TEXT, response_format="wav") as response:
        assert response.headers["content-type"] == "audio/wav"
        wav = response.read()
    assert (wav[:4], wav[8:16]) == (b"RIFF", b"WAVEfmt ")
    assert len(wav) == 44 + 2 * SAMPLES
    assert wav[44:] != b"".join(pieces)


def test_openais_client_gets_errors_before_the_first_byte(client: openai.OpenAI) -> None:
    with (
        pytest.raises(openai.BadRequestError) as error,
        client.audio.speech.with_streaming_response.create(model="tones", voice="low", input="x" * 5000),
    ):
        pass
    assert error.value.param == "input"


def test_the_lifespan_is_entered(server: ServerProcess) -> None:
    assert server.wait_for_line("speech: up to 4096 characters")


def test_the_command_of_its_readme_is_valid(installed: Path) -> None:
    lines = (PROJECT / "README.md").read_text().splitlines()
    (command,) = (line.split()[1:] for line in lines if line.startswith("mlx-host run "))
    done = mlx_host(*command, "--help-all", plugins=[installed])
    assert done.returncode == 0, done.stderr
    assert "--speech-max-characters" in done.stdout


def test_it_is_listed(installed: Path) -> None:
    listed = mlx_host("plugins", "-v", plugins=[installed]).stdout
    assert "mlx-host-toy-speech" in listed
    assert "backend tones" in listed
    assert "/v1/audio/speech" in listed


def test_it_is_not_served_by_default() -> None:
    assert "toy-speech" not in mlx_host("plugins").stdout


def test_the_example_has_the_stated_length() -> None:
    lines = [line for path in PROJECT.glob("mlx_host_toy_speech/*.py") for line in path.read_text().splitlines()]
    assert len([line for line in lines if line.strip()]) < 100
