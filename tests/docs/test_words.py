"""The word list of CONTRIBUTING.md, applied to names, messages and documentation of the whole repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT
from tests.docs.test_reference import rows

HOOK = next(
    hook
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in repo["hooks"]
    if hook["id"] == "words"
)
AVOIDED = re.compile(HOOK["entry"])
EXCLUDED = re.compile(HOOK["exclude"])
FOLDERS = (".ci", "benchmarks", "core", "docs", "examples", "plugins", "scripts", "tests")
SUFFIXES = {"", ".ipynb", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
NOT_SOURCES = {"__pycache__", "build", "dist", "node_modules"}


def files(folder: Path, *, recursive: bool = True) -> Iterator[Path]:
    """Yield the text files of a folder that are part of the repository."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if recursive and path.name not in NOT_SOURCES and not path.name.startswith("."):
                yield from files(path)
        elif path.suffix in SUFFIXES and not EXCLUDED.search(str(path.relative_to(ROOT))):
            yield path


def findings(path: Path) -> Iterator[str]:
    """Yield FILE:LINE and the word for each line with a word to avoid."""
    name = path.relative_to(ROOT)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if found := AVOIDED.search(line):
            yield f"{name}:{number}: {found[0]!r} in {line.strip()[:120]}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_word_to_avoid_is_used(folder: str) -> None:
    found = [finding for path in files(ROOT / folder) for finding in findings(path)]
    assert not found, "see the word list in CONTRIBUTING.md\n" + "\n".join(found)


def test_no_word_to_avoid_is_used_at_the_top() -> None:
    paths = [path for path in files(ROOT, recursive=False) if not path.name.startswith(".") and path.name != "uv.lock"]
    assert {"README.md", "pyproject.toml"} <= {path.name for path in paths}
    found = [finding for path in paths for finding in findings(path)]
    assert not found, "see the word list in CONTRIBUTING.md\n" + "\n".join(found)


def word_list() -> list[tuple[str, str]]:
    """The two columns of the word list."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Word list")[2]
    return [(use, avoid) for use, avoid in rows(section.partition("\n## ")[0])[1:]]


@pytest.mark.parametrize("avoid", [word for _, cell in word_list() for word in re.findall("`([^`]+)`", cell)])
def test_a_listed_word_is_found(avoid: str) -> None:
    assert AVOIDED.search(avoid)


@pytest.mark.parametrize(
    "text",
    [
        *(use for use, _ in word_list()),
        "There is no model named 'x'.",
        "The model is no longer loaded.",
        "connection refused",
        "the delta's refusal",
        "The implementation sounds like this.",
        "almost",
        "ALMOST_FULL",
    ],
)
def test_other_words_are_not_found(text: str) -> None:
    assert not AVOIDED.search(text)


def test_a_finding_names_the_file_and_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.test_words.ROOT", tmp_path)
    (tmp_path / "module.py").write_text("x = 1\ndef test_picture() -> None: ...\n", encoding="utf-8")
    (found,) = (finding for path in files(tmp_path) for finding in findings(path))
    assert found.startswith("module.py:2: 'picture' in ")
