"""Parses the fenced blocks of the documentation and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# READMEs of packages and examples: checked, but not executed like the README and the documentation.
PACKAGE_PAGES = sorted(
    page
    for places in ("core", "plugins/*", "plugins/parsers/*", "examples/*")
    for page in ROOT.glob(f"{places}/README.md")
)
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)
NOT_RUN = "Not run here"


@dataclass(frozen=True)
class Block:
    """A fenced block: page, line, language, title and text."""

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def file(self) -> str | None:
        """The file name in the title, if the block is a file."""
        return self.title if re.fullmatch(r"[\w./-]+", self.title) else None

    @property
    def not_run(self) -> bool:
        return self.title.startswith(NOT_RUN)

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    found = []
    for match in FENCE.finditer(text):
        indent, info, inner = match.groups()
        language, _, rest = info.strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        body = "".join(line.removeprefix(indent) for line in inner.splitlines(keepends=True))
        found.append(Block(name, text[: match.start()].count("\n") + 1, language, title[1] if title else "", body))
    return found


def commands(text: str) -> list[str]:
    """The commands of a shell block, with continued lines joined."""
    found: list[str] = []
    pending = ""
    for line in text.splitlines():
        pending += line + "\n"
        if line.endswith("\\") or _unfinished(pending):
            continue
        if pending.strip() and not pending.lstrip().startswith("#"):
            found.append(pending.strip())
        pending = ""
    assert not pending.strip(), f"the block ends within a command: {pending!r}"
    return found


def _unfinished(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return False
