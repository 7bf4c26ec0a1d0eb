"""Executes the fenced blocks of the documentation, one page at a time and in order, each page in a separate folder.

* `js` must be valid, if Node.js is installed; scripts/check_clients.py runs it.
* `sh` is run by bash. A line that starts `mlx-host run` starts a server, which stays until the next such line or the
  end of the page; port 8000 is replaced by a free one.
* `python` is run in one namespace for the whole page.
* `text` and `json` directly after one of these show its output; an ellipsis, `…`, matches anything.
* A block whose title is a file's name is written to that file.
* A block whose title begins with "Not run here" needs another machine or a large model. It is only checked: its shell
  must parse, and its `mlx-host` lines are parsed by the real command line.
* `console` shows commands after `$`, which are executed too; a block without a language is an illustration.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.docs.blocks import Block, commands
from tests.docs.checks import compare, read_only, read_shell
from tests.support.command import environment
from tests.support.plugin_projects import uv
from tests.support.server import BLAS, ServerProcess

# Commands that use the network, change the machine, or check the repository itself.
OUTSIDE = re.compile(
    r"(\w+=\S+ )*((python3 -m )?pip install |git (clone|tag|push)|apt-get |sudo |\.ci/run"
    r"|uv (pip install|sync|lock|build|run (--no-sync )?(pytest|ruff|mypy|lint-imports|python -m scripts)))"
)
SERVER = re.compile(r"(uv run )?mlx-host (run|launch)\b(?!.*--help)")


class Served:
    """The server for the pages: one at a time, on one port; it keeps running for pages that need the same."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._like: str | None = None
        self._stack = contextlib.ExitStack()

    def start(self, command: str, folder: Path, env: Mapping[str, str], like: str | None) -> None:
        """Start a server, or keep the running one if it is `like` this one."""
        if like is not None and like == self._like:
            return
        self.stop()
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        server = ServerProcess(process)
        assert process.stderr is not None
        self._stack.callback(process.stderr.close)
        self._stack.callback(server.stop)
        server.wait_for_line("ready: ")
        self._like = like

    def stop(self) -> None:
        self._like = None
        self._stack.close()


@dataclass
class Session:
    """A page that is being executed."""

    folder: Path
    served: Served
    # Without the packages of the workspace, as a reader's other programs are.
    bare: bool = False
    output: str = ""
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})

    @property
    def _installed(self) -> Path:
        return self.folder / "installed"

    def execute(self, block: Block) -> None:
        """Execute a block, or compare it with the last output."""
        text = re.sub(r"\b8000\b", str(self.served.port), block.text)
        if block.file is not None:
            self._write(block.file, text)
        elif block.not_run or block.language == "console":
            with contextlib.chdir(self.folder):
                read_only(block)
        elif block.language == "sh":
            self.output = "".join(self._shell(block, command) for command in commands(text))
        elif block.language == "python":
            self.output = self._python(block, text)
        elif block.language == "js":
            read_only(block)
        elif block.language in ("text", "json"):
            compare(block, block.text, self.output)
        else:
            assert not block.language, f"{block}: a block in {block.language!r} needs a title"

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        match path.suffix:
            case ".toml":
                tomllib.loads(text)
            case ".yaml" | ".yml":
                yaml.safe_load(text)
            case ".plist":
                ElementTree.fromstring(text)
            case ".json":
                json.loads(text)
            case ".py":
                compile(text, name, "exec")

    def _bare_environment(self) -> dict[str, str]:
        """The environment without the virtual environment of the test suite, and with uv."""
        here = Path(sys.executable).parent
        path = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != here]
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return {**kept, "PATH": os.pathsep.join([str(Path(uv()).parent), *path])}

    def _environment(self) -> dict[str, str]:
        here = Path(sys.executable).parent
        return environment(
            {
                "PATH": os.pathsep.join([str(here), os.environ["PATH"]]),
                "PYTHONPATH": os.pathsep.join(filter(None, [str(self._installed), os.environ.get("PYTHONPATH")])),
                "MLX_HOST_PORT": str(self.served.port),
                "MLX_HOST_ENV": json.dumps(BLAS),
                "UV": uv(),
                "NO_COLOR": "1",
            }
        )

    def _shell(self, block: Block, command: str) -> str:
        # Use the environment of the test suite without letting uv sync the project first.
        command = re.sub(r"^python3 -m pip install uv && ", "", command)
        if OUTSIDE.match(command):
            return self._install(block, command)
        command = re.sub(r"\buv run (?!--no-sync|--no-project)", "", command)
        if SERVER.match(command):
            self._serve(command)
            return ""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self._bare_environment() if self.bare else self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {command!r} failed\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _install(self, block: Block, command: str) -> str:
        """Install the named folders of the page; anything else must exist."""
        read_shell(block, command)
        for word in shlex.split(command.replace("\\\n", " ")):
            if (self.folder / word / "pyproject.toml").is_file():
                install(self.folder / word, self._installed)
        return ""

    def _serve(self, command: str) -> None:
        # A server with files or packages of the page is not shared.
        like = command if not any(self.folder.glob("*.toml")) and not self._installed.exists() else None
        self.served.start(command, self.folder, self._environment(), like)

    def _python(self, block: Block, text: str) -> str:
        printed = io.StringIO()
        code = compile("\n" * block.line + text, block.page, "exec")
        with contextlib.redirect_stdout(printed), contextlib.chdir(self.folder):
            exec(code, self.names)
        return printed.getvalue()


def install(project: Path, target: Path) -> None:
    """Install a project of a few modules with the metadata that its wheel would have.

    Building the wheels would take longer than the rest of a page; that such projects build is tested elsewhere.
    """
    config = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    name, version = config["project"]["name"], config["project"]["version"]
    info = target / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = config["project"]["entry-points"]["mlx_host"]
    (info / "entry_points.txt").write_text("[mlx_host]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    package = project / name.replace("-", "_")
    if package.is_dir():
        shutil.copytree(package, target / package.name, dirs_exist_ok=True)
        return
    wheel = config["tool"]["hatch"]["build"]["targets"]["wheel"]
    for module in wheel.get("include", ()):
        shutil.copy(project / module, target)
    for package in wheel.get("packages", ()):
        shutil.copytree(project / package, target / package, dirs_exist_ok=True)
