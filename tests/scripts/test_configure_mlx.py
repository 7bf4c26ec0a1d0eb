"""scripts/configure_mlx.sh: what it shows, when it asks, and what it sets, with stand-ins for the programs of macOS."""

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
    """A folder of stand-ins; `said` is what was asked of sysctl and sudo, a line each."""

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
    def said(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def mac(tmp_path: Path) -> Mac:
    return Mac(tmp_path)


@pytest.mark.parametrize(("memory", "limit"), [(8, 4096), (16, 12288), (32, 26215), (64, 57344), (512, 516096)])
def test_it_leaves_a_fifth_of_four_to_eight_gigabytes(mac: Mac, memory: int, limit: int) -> None:
    mac.memory(memory)
    done = mac.run("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"currently 0 (the system chooses), new {limit} MB" in done.stdout
    assert f"Left to the system:    {memory * 1024 - limit} MB" in done.stdout
    assert f"Would run: sudo sysctl iogpu.wired_limit_mb={limit}" in done.stdout
    assert mac.said == []


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n"])
def test_it_asks_and_sets(mac: Mac, answer: str) -> None:
    done = mac.run(answer=answer)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Set it, until the next restart? [y/N]" in done.stdout
    assert mac.said == ["sudo sysctl iogpu.wired_limit_mb=57344", "sysctl iogpu.wired_limit_mb=57344"]


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "maybe\n"])
def test_it_asks_and_leaves_it(mac: Mac, answer: str) -> None:
    done = mac.run(answer=answer)
    assert done.returncode == 1
    assert done.stdout.endswith("Not changed.\n")
    assert mac.said == []


def test_yes_asks_nothing_and_root_needs_no_sudo(mac: Mac) -> None:
    mac.program("id", "echo 0")
    assert "?" not in mac.run("--yes", "50000").stdout
    assert mac.said == ["sysctl iogpu.wired_limit_mb=50000"]


def test_reset_leaves_it_to_the_system(mac: Mac) -> None:
    mac.memory(64, limit=57344)
    assert "currently 57344 MB, new 0 (the system chooses)" in mac.run("--yes", "--reset").stdout
    assert mac.said[-1] == "sysctl iogpu.wired_limit_mb=0"


def test_what_is_set_already_is_left(mac: Mac) -> None:
    mac.memory(64, limit=57344)
    done = mac.run()
    assert (done.returncode, done.stdout.splitlines()[-1], mac.said) == (0, "The limit is already set.", [])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["65536"], "65536 MB"),
        (["lots"], "'lots'"),
        (["-1"], "'-1'"),
        ([""], "''"),
    ],
)
def test_invalid_arguments_are_rejected(mac: Mac, args: list[str], said: str) -> None:
    done = mac.run("--yes", *args)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert mac.said == []


def test_it_needs_macos_15_and_memory(mac: Mac) -> None:
    mac.memory(6)
    assert "6144 MB" in mac.run().stderr
    mac.version("14.7")
    assert "14.7" in mac.run().stderr
    mac.program("uname", "echo Linux")
    assert "only macOS" in mac.run().stderr
    assert mac.said == []


def test_help_and_syntax(mac: Mac) -> None:
    assert mac.run("--help").stdout.startswith("Usage: configure_mlx.sh")
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    # What bash 3.2, which macOS comes with, does not know.
    text = SCRIPT.read_text()
    assert not any(word in text for word in ("mapfile", "declare -A", ",,}", "^^}", "|&", "&>>"))
