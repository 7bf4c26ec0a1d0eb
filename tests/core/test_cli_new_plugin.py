"""`mlx-host plugins new`: the generated package can be installed, passes its tests, and works."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.client import error_of, post
from tests.support.command import environment, mlx_host, usage_error_of
from tests.support.plugin_projects import install_projects
from tests.support.server import running_server

PROJECTS = ("mlx-host-hello-again", "mlx-host-parser-my-notes", "mlx-host-repeat-it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new backend, a new parser and a new API."""
    folder = tmp_path_factory.mktemp("new")
    for name, kind in (("hello-again", "backend"), ("my_notes", "parser"), ("repeat-it", "api")):
        done = mlx_host("plugins", "new", name, "--kind", kind, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        pip = "pip" if find_spec("pip") else "uv pip"
        last = done.stdout.splitlines()[-1]
        assert last.startswith(f"Install it in editable mode: {pip} install --editable mlx-host-")
    return folder


@pytest.fixture(scope="module")
def installed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_projects(tmp_path_factory.mktemp("target"), [folder / project for project in PROJECTS])


def test_a_package_has_all_files(folder: Path) -> None:
    project = folder / "mlx-host-hello-again"
    assert sorted(str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()) == [
        "README.md",
        "mlx_host_hello_again.py",
        "pyproject.toml",
        "tests/test_contract.py",
    ]
    for file in folder.rglob("*.*"):
        assert not file.is_file() or "$" not in file.read_text(), file


@pytest.mark.parametrize("project", PROJECTS)
def test_generated_tests_pass(folder: Path, installed: Path, project: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", "."]
    env = environment(plugins=[installed])
    done = subprocess.run(command, cwd=folder / project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("check", [["check"], ["check", "--select", "I,UP,B,RUF"], ["format", "--check"]], ids=" ".join)
def test_generated_code_is_formatted_linted_and_typed(folder: Path, check: list[str]) -> None:
    ruff = [str(Path(sys.executable).with_name("ruff")), *check, "--isolated", "--line-length", "120"]
    done = subprocess.run([*ruff, "."], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_installed_backend_and_parser_work(installed: Path) -> None:
    env = environment(plugins=[installed])
    with running_server("--backend", "hello-again", "--parser", "my-notes", "--greeting", "Hm:", env=env) as server:
        output = '<call>{"name": "now", "arguments": {}}</call>'
        tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
        parts = [{"type": "text", "text": output[:9]}, {"type": "text", "text": output[9:]}]
        body = {"model": "hello-again", "messages": [{"role": "user", "content": parts}], "tools": [tool]}
        (choice,) = post(server, body).json()["choices"]
    assert choice["message"]["content"].strip() == "Hm:"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["now"]
    assert choice["finish_reason"] == "tool_calls"


def test_an_installed_api_works(installed: Path) -> None:
    env = environment({"MLX_HOST_REPEAT_IT_MAX_CHARACTERS": "12"}, plugins=[installed])
    with running_server("--backend", "repeat-it", env=env) as server:
        assert post(server, {"text": "Hello there"}, "/v1/repeat-it").json() == {"text": "Hello there "}
        assert error_of(post(server, {"text": "Hello there!!"}, "/v1/repeat-it"), 400)["param"] == "text"


def test_plugins_lists_them(installed: Path) -> None:
    listed = mlx_host("plugins", plugins=[installed]).stdout
    assert "backend hello-again" in listed
    assert "parser my_notes" in listed
    assert "mlx-host-repeat-it" in listed


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["lm", "--kind", "backend"], "backend 'lm' already exists in mlx-host-lm"),
        (["Qwen3_Next", "--kind", "parser"], "parser 'qwen3-next' already exists in mlx-host-parser-qwen3"),
        (["Chat", "--kind", "api"], "API 'chat' already exists in mlx-host "),
        (["lm", "--kind", "api"], "backend 'lm' already exists in mlx-host-lm"),
        (["7up", "--kind", "backend"], "'7up' is not a valid plugin name"),
        (["a b", "--kind", "backend"], "'a b' is not a valid plugin name"),
        (["mlx-host-", "--kind", "backend"], "'mlx-host-' is not a valid plugin name"),
        (["mlx-host-hello-again", "--kind", "backend"], "'mlx-host-hello-again' already exists"),
        (["mlx_host_parser_my_notes", "--kind", "parser"], "'mlx-host-parser-my-notes' already exists"),
        (["hello-again", "--kind", "backend"], "'mlx-host-hello-again' already exists"),
        (["x", "--kind", "source"], "'source' is not one of 'backend', 'parser', 'api'"),
    ],
)
def test_invalid_names_are_rejected(folder: Path, args: list[str], expected: str) -> None:
    done = mlx_host("plugins", "new", *args, cwd=folder)
    done.stderr = done.stderr.replace("plugins new --help", "run --help")
    assert expected in usage_error_of(done)
