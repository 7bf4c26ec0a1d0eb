"""Runs a coding agent as a command in a folder, with the plan that the model follows."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.server import ServerProcess

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "agents.md"
CALCULATOR = [sys.executable, str(Path(__file__).with_name("calculator.py"))]
MODEL = "local"
TIMEOUT = 120
OUTCOME = re.compile(r" task=chat outcome=(\w+)")
# Nothing listens there: an agent that connects to another host fails.
NOWHERE = "http://127.0.0.1:9"


def plan(*steps: Any, limit: int | None = None, task: str = "Follow the plan.") -> str:
    """Return a task with the plan that the model follows; see mlx_host_planned."""
    encoded = base64.b64encode(json.dumps({"limit": limit, "steps": steps}).encode()).decode()
    return f"{task} <<<{encoded}>>>"


def documented(server: ServerProcess, section: str) -> str:
    """Return the configuration in a section of the documentation, with the server's address."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    block = text.partition("```")[2].partition("\n")[2].partition("\n```")[0]
    return block.replace("http://127.0.0.1:8000", server.url)


def documented_variables(server: ServerProcess, section: str) -> dict[str, str]:
    """Return the environment variables in a section of the documentation."""
    exports = [line.removeprefix("export ") for line in documented(server, section).splitlines() if "=" in line]
    return dict(export.split("=", 1) for export in exports)


def big_files(agent: Agent) -> list[Path]:
    """Write two files of about 13,000 tokens to the working folder."""
    agent.work.mkdir(exist_ok=True)
    files = [agent.work / "first.txt", agent.work / "second.txt"]
    for file in files:
        file.write_text("\n".join(f"{file.stem} {line} {'x' * 60}" for line in range(700)))
    return files


def failures(agent: Agent) -> list[str]:
    """Return the outcomes of the agent's requests that failed, from the server's log."""
    outcomes = [OUTCOME.search(line) for line in agent.server.lines[agent.first_line :]]
    return [found[1] for found in outcomes if found is not None and found[1] not in ("stop", "tool_calls")]


@dataclass
class Agent:
    """An installed agent with its home and working folder.

    `arguments` precede the task, `environment` is added to the variables that all agents get.
    """

    server: ServerProcess
    commands: Path
    folder: Path
    command: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    first_line: int = 0

    def __post_init__(self) -> None:
        self.first_line = len(self.server.lines)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(self, task: str, *more: str, expects_failure: bool = False) -> str:
        """Run the agent for one task and return its output; it and its processes end with the call."""
        for folder in (self.work, self.home):
            folder.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [str(self.commands / self.command), *self.arguments, *more, task],
            cwd=self.work,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            raise AssertionError(self._report("did not end", output, errors)) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        is_expected = process.returncode == 0 or expects_failure
        assert is_expected, self._report(f"ended with {process.returncode}", output, errors)
        return output + errors if expects_failure else output

    def _report(self, what: str, output: str, errors: str) -> str:
        log = "\n".join(self.server.lines[-20:])
        return f"{self.command} {what}\n{output[-4000:]}\n{errors[-4000:]}\nserver:\n{log}"

    def _environment(self) -> dict[str, str]:
        path = [str(self.commands), str(self.commands.parent / "node" / "bin"), os.environ["PATH"]]
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            "HOME": str(self.home),
            "PATH": os.pathsep.join(path),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "HTTP_PROXY": NOWHERE,
            "HTTPS_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "DO_NOT_TRACK": "1",
            **self.environment,
        }
