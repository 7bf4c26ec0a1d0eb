"""Sentences of the README and of the documentation are checked against the code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from scripts import reference
from scripts.reference import installed
from tests.docs.blocks import PACKAGE_PAGES, ROOT, Block
from tests.docs.checks import read_arguments
from tests.docs.test_reference import rows

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *PACKAGE_PAGES]


def commands() -> Iterator[tuple[str, str]]:
    """The complete mlx-host commands in the sentences and tables of all pages; capitals are placeholders."""
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for command in dict.fromkeys(re.findall(r"`mlx-host ([^`]+)`", prose)):
            if "…" not in command and not re.search(r"\b[A-Z]{4,}\b", command):
                yield str(page.relative_to(ROOT)), command


@pytest.mark.parametrize(("page", "command"), [*commands()])
def test_commands_in_sentences_are_valid(page: str, command: str) -> None:
    words = command.split()
    # A command's name, or its beginning, can be mentioned without its required arguments.
    complete = "--model" in words or words[0] not in ("run", "launch", "bench", "parser", "service")
    complete = complete and command != "plugins new"
    read_arguments(Block(page, 0, "sh", "", command), words if complete else [*words, "--help"])


def test_each_extra_is_in_the_table_and_each_backend_has_a_command() -> None:
    extras = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    table = rows((ROOT / "docs" / "installation.md").read_text(encoding="utf-8"))
    commands = {extra: row[2] for row in table for extra in re.findall(r"`mlx-host\[(\w+)\]`", row[0])}
    assert set(commands) == set(extras) - {"testing"}
    for name in installed.backends():
        assert commands[name].startswith(f"`mlx-host run --backend {name} ")


def test_the_readme_has_two_kinds_of_commands() -> None:
    commands = re.findall(r"^.*\buv run\b.*$", README, re.MULTILINE)
    assert [command for command in commands if command.startswith("python3 -m pip install uv && ")] == [
        "python3 -m pip install uv && uv run mlx-host run --backend lm --model demo:smollm2",
        "python3 -m pip install uv && uv run pytest",
    ]
    assert len(README.splitlines()) < 150


def test_the_named_flags_exist() -> None:
    known = set(
        re.findall(r"--[\w-]+", "".join(map(reference.section, ("server-settings", "model-settings", "options"))))
    )
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert set(re.findall(r"--[a-z][\w-]+", prose)) <= known | {"--break-system-packages"}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_links_are_valid(target: str) -> None:
    assert (ROOT / target).exists()
