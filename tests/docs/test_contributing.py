"""Format, lint, types, imports, documentation and tests have one command each, the same wherever it is written."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import yaml

from tests.docs.blocks import ROOT

COMMANDS = (
    *("ruff format", "ruff check", "mypy", "lint-imports"),
    *(
        "python -m scripts.check_dependencies",
        "python -m scripts.build_docs",
        "python -m scripts.check_oldest",
        "pytest",
    ),
)


def words(command: str) -> str:
    """Return a command without the environment and the arguments that differ between the places."""
    kept = [word for word in shlex.split(command, comments=True) if "=" not in word and not word.startswith("--")]
    return " ".join(word for word in kept if word not in ("uv", "run", "env", "${fast[@]}", "$@"))


def test_contributing_has_each_command() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    output = [words(line) for line in text.splitlines() if line.startswith("uv run ")]
    assert output == list(COMMANDS)


def test_ci_runs_each_command() -> None:
    checks = re.findall(r"^check (.+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert sorted(map(words, checks)) == sorted(COMMANDS)


def test_pre_commit_runs_each_command_except_the_slow_ones() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"] if hook["language"] == "system"]
    assert [words(hook["entry"]) for hook in hooks] == list(COMMANDS[:-2])
    # Nothing is downloaded: the tools are those of the workspace.
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    for command in COMMANDS:
        assert Path(sys.executable).with_name(command.split()[0]).exists()
