"""Shell completion, executed in bash, zsh and fish where they are installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.command import environment, mlx_host, usage_error_of
from tests.support.server import ServerProcess, running_server
from tests.support.shell import Shell, running_shell

SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed"))
    for shell in ("bash", "zsh")
]
# What is typed before the Tab key, and the resulting arguments.
TYPED = {
    "run --backe": ["run", "--backend"],
    "run --backend scrip": ["run", "--backend", "scripted"],
    "run --backend=scrip": ["run", "--backend=scripted"],
    "run --backend=lm --prompt-cache-b": ["run", "--backend=lm", "--prompt-cache-bytes"],
    "run --backend no-such --prompt-cache-b": ["run", "--backend", "no-such", "--prompt-cache-b"],
    "run --parser mistr": ["run", "--parser", "mistral"],
    "run --parser au": ["run", "--parser", "auto"],
    "run --disable-api tok": ["run", "--disable-api", "tokens"],
    "run --log-level crit": ["run", "--log-level", "critical"],
    "run --config mlx": ["run", "--config", "mlx-host.toml"],
    "run --model mod": ["run", "--model", "models/"],
    "bench --backend scrip": ["bench", "--backend", "scripted"],
    "parser test gran": ["parser", "test", "granite"],
    "compl": ["completion"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory in which completion is installed for every shell."""
    home = tmp_path_factory.mktemp("home")
    (home / "models").mkdir()
    (home / "mlx-host.toml").touch()
    for shell in ("bash", "zsh", "fish"):
        done = mlx_host("completion", shell, "--install", env=shell_environment(home))
        assert (done.returncode, done.stderr) == (0, "")
    return home


def shell_environment(home: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    kept = environment({"HOME": str(home), "TERM": "dumb", "COLUMNS": "200"})
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        kept.pop(name, None)
    return {**kept, "PATH": f"{scripts}:{kept['PATH']}"}


@pytest.fixture(scope="module")
def shells(home: Path) -> Iterator[dict[str, Shell]]:
    """Interactive shells, in which `mlx-host` prints its arguments; the completion runs the real one."""
    terminals: dict[str, Shell] = {}
    with ExitStack() as stack:
        yield _Lazy(terminals, home, stack)


class _Lazy(dict[str, Shell]):
    def __init__(self, terminals: dict[str, Shell], home: Path, stack: ExitStack) -> None:
        super().__init__(terminals)
        self._home, self._stack = home, stack

    def __missing__(self, shell: str) -> Shell:
        terminal = self._stack.enter_context(running_shell([shell, "-i"], shell_environment(self._home), self._home))
        terminal.send("mlx-host() { printf '<%s>' \"$@\"; echo '<end>'; }; echo rea''dy\n")
        terminal.wait_for("ready")
        self[shell] = terminal
        return terminal


# Fewer for zsh and fish: what is completed does not depend on the shell.
FEWER = ("run --backe", "run --backend=scrip", "run --parser mistr", "run --config mlx", "parser test gran")


@pytest.mark.parametrize(
    ("shell", "typed"),
    [
        pytest.param(shell, typed, marks=mark.marks, id=f"{shell}-{typed}")
        for mark, keys in zip(SHELLS, (TYPED, FEWER), strict=True)
        for shell in mark.values
        for typed in keys
    ],
)
def test_the_tab_key_completes_the_word(shells: dict[str, Shell], shell: str, typed: str) -> None:
    terminal = shells[shell]
    terminal.send(f"mlx-host {typed}\t\n")
    printed = terminal.wait_for("<end>")
    assert "".join(f"<{argument}>" for argument in TYPED[typed]) + "<end>" in printed


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("typed", FEWER)
def test_fish_completes_the_word(home: Path, typed: str) -> None:
    done = subprocess.run(
        ["fish", "--command", f"complete --do-complete 'mlx-host {typed}'"],
        capture_output=True,
        text=True,
        env=shell_environment(home),
        cwd=home,
        check=True,
    )
    assert done.stderr == ""
    values = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert values == [TYPED[typed][-1]]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "scripted", "--served-model-name", "demo:tiny") as server:
        yield server


@pytest.mark.parametrize("shell", SHELLS)
def test_the_models_of_a_running_server_are_completed(
    shells: dict[str, Shell], server: ServerProcess, shell: str
) -> None:
    """bash splits the name at the colon."""
    terminal = shells[shell]
    for typed in ("de", "demo:t"):
        terminal.send(f"mlx-host bench {server.url}/v1 --model {typed}\t\n")
        assert "<--model><demo:tiny><end>" in terminal.wait_for("<end>")


def test_the_models_of_the_configuration_file_are_completed_if_the_server_does_not_run(tmp_path: Path) -> None:
    config = tmp_path / "mlx-host.toml"
    config.write_text('[[models]]\nbackend = "scripted"\n[[models]]\nbackend = "lm"\nmodel = "org/name"\n')
    line = "mlx-host bench http://127.0.0.1:9/v1 --model "
    env = {"COMP_LINE": line, "_MLX_HOST_COMPLETE": "bash_complete", "MLX_HOST_CONFIG": str(config)}
    script = Path(sys.executable).with_name("mlx-host")
    done = subprocess.run([script], capture_output=True, text=True, env=environment(env), check=True)
    assert done.stdout.split() == ["plain,org/name", "plain,scripted"]
    assert done.stderr == ""


def test_an_installation_is_idempotent_and_keeps_the_startup_file(tmp_path: Path) -> None:
    env = shell_environment(tmp_path)
    (tmp_path / ".bashrc").write_text("alias x=y")
    for _ in range(2):
        assert mlx_host("completion", "--install", env={**env, "SHELL": "/bin/bash"}).returncode == 0
    first, line = (tmp_path / ".bashrc").read_text().splitlines()
    assert first == "alias x=y"
    assert Path(line.removeprefix(". ")).read_text() == mlx_host("completion", "bash", env=env).stdout


@pytest.mark.parametrize(("shell", "named"), [("/bin/csh", "'/bin/csh'"), ("", "not set")])
def test_an_unsupported_shell_is_a_usage_error(shell: str, named: str) -> None:
    message = usage_error_of(mlx_host("completion", env={"SHELL": shell}))
    assert named in message
    assert "bash|zsh|fish" in message


def test_a_folder_that_cannot_be_written_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / ".local").touch()
    done = mlx_host("completion", "bash", "--install", env=shell_environment(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
