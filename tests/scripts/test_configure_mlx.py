"""scripts/configure_mlx.sh: output, confirmation and settings, with stubs for the programs of macOS."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "configure_mlx.sh"
GIB = 1024**3


@dataclass
class Mac:
    """A folder of stubs; `commands` are the recorded commands of sysctl and sudo, one per line."""

    folder: Path

    def __post_init__(self) -> None:
        self.program("uname", "echo Darwin")
        self.program("id", "echo 501")
        self.program("sudo", 'echo "sudo $*" >> "$LOG"; exec "$@"')
        self.version("15.6.1")
        self.memory(64)

    def program(self, name: str, body: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.folder / name).chmod(0o755)

    def version(self, version: str) -> None:
        self.program("sw_vers", f"echo {version}")

    def memory(self, gibibytes: int, limit: int = 0) -> None:
        reads = f'"-n hw.memsize") echo {gibibytes * GIB};; "-n iogpu.wired_limit_mb") echo {limit};;'
        self.program("sysctl", f'case "$*" in {reads} *) echo "sysctl $*" >> "$LOG";; esac')

    def run(self, *args: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "LOG": str(self.folder / "log")}
        return subprocess.run(
            ["bash", str(SCRIPT), *args], input=answer, env=env, capture_output=True, text=True, check=False
        )

    @property
    def commands(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def mac(tmp_path: Path) -> Mac:
    return Mac(tmp_path)


@pytest.mark.parametrize(("memory", "limit"), [(8, 4096), (16, 12288), (32, 26215), (64, 57344), (512, 516096)])
def test_a_fifth_of_the_memory_or_4_to_8_gb_is_left_to_the_system(mac: Mac, memory: int, limit: int) -> None:
    mac.memory(memory)
    done = mac.run("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"0 (the system chooses) now, {limit} MB then" in done.stdout
    assert f"Left to the system:    {memory * 1024 - limit} MB" in done.stdout
    assert f"Would run: sudo sysctl iogpu.wired_limit_mb={limit}" in done.stdout
    assert mac.commands == []


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n"])
def test_limit_is_set_after_confirmation(mac: Mac, answer: str) -> None:
    done = mac.run(answer=answer)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Set it, until the next restart? [y/N]" in done.stdout
    assert mac.commands == ["sudo sysctl iogpu.wired_limit_mb=57344", "sysctl iogpu.wired_limit_mb=57344"]


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "maybe\n"])
def test_limit_is_not_set_without_confirmation(mac: Mac, answer: str) -> None:
    done = mac.run(answer=answer)
    assert done.returncode == 1
    assert done.stdout.endswith("Nothing was changed.\n")
    assert mac.commands == []


def test_yes_skips_confirmation_and_root_needs_no_sudo(mac: Mac) -> None:
    mac.program("id", "echo 0")
    assert "?" not in mac.run("--yes", "50000").stdout
    assert mac.commands == ["sysctl iogpu.wired_limit_mb=50000"]


def test_reset_restores_the_default(mac: Mac) -> None:
    mac.memory(64, limit=57344)
    assert "57344 MB now, 0 (the system chooses) then" in mac.run("--yes", "--reset").stdout
    assert mac.commands[-1] == "sysctl iogpu.wired_limit_mb=0"


def test_nothing_is_done_if_the_limit_is_already_set(mac: Mac) -> None:
    mac.memory(64, limit=57344)
    done = mac.run()
    assert (done.returncode, done.stdout.splitlines()[-1], mac.commands) == (0, "There is nothing to do.", [])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["65536"], "65536 MB are not less than the 65536 MB that there are"),
        (["lots"], "'lots' is no number of megabytes"),
        (["-1"], "'-1' is no number of megabytes"),
        ([""], "'' is no number of megabytes"),
    ],
)
def test_invalid_arguments_are_rejected(mac: Mac, args: list[str], message: str) -> None:
    done = mac.run("--yes", *args)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert mac.commands == []


def test_it_needs_macos_15_and_memory(mac: Mac) -> None:
    mac.memory(6)
    assert "6144 MB are too little" in mac.run().stderr
    mac.version("14.7")
    assert "macOS 15 or newer is needed, this is 14.7" in mac.run().stderr
    mac.program("uname", "echo Linux")
    assert "macOS alone" in mac.run().stderr
    assert mac.commands == []


def test_help_and_syntax(mac: Mac) -> None:
    assert mac.run("--help").stdout.startswith("Usage: configure_mlx.sh")
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    # Syntax that bash 3.2, the version of macOS, does not support.
    text = SCRIPT.read_text()
    assert not any(word in text for word in ("mapfile", "declare -A", ",,}", "^^}", "|&", "&>>"))
