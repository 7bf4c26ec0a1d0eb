"""Every command and code block of the README and the documentation works as shown."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import PACKAGE_PAGES, ROOT, Block, blocks
from tests.docs.checks import read_only
from tests.docs.session import Served, Session

RECORDING = "examples/notebooks/announcement.mp3"
PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    if blocks(page)
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """The server that the pages share."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = Served(port)
    yield served
    served.stop()


@pytest.fixture
def session(tmp_path: Path, served: Served) -> Session:
    """A working directory with the audio file of the clone that the pages use."""
    (tmp_path / RECORDING).parent.mkdir(parents=True)
    shutil.copy(ROOT / RECORDING, tmp_path / RECORDING)
    return Session(tmp_path, served)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_work(page: Path, session: Session) -> None:
    session.bare = page.name == "README.md"
    for block in blocks(page):
        session.execute(block)


@pytest.mark.parametrize("page", [*filter(blocks, PACKAGE_PAGES)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_package_are_valid(page: Path) -> None:
    for block in blocks(page):
        read_only(block)


def test_pages_have_blocks() -> None:
    assert len(PAGES) > 5


def block(language: str, text: str, title: str = "") -> Block:
    return Block("a page", 1, language, title, text)


@pytest.mark.parametrize(
    "wrong",
    [
        [block("sh", "false")],
        [block("sh", "echo 1"), block("text", "2")],
        [block("sh", "echo '{\"a\": 1}'"), block("json", '{"a": 2}')],
        [block("sh", "mlx-host run --backend lm --no-such-flag", "Not run here: why")],
        [block("sh", "mlx-host plugins new", "Not run here: why")],
        [block("sh", "if true", "Not run here: why")],
        [block("console", "$ mlx-host no-such-command")],
        [block("python", "assert False")],
        [block("toml", "a = ", "a.toml")],
        [block("json", "{a: 1}", "a.json")],
        [block("rust", "fn main() {}")],
    ],
    ids=lambda wrong: " ".join(each.text for each in wrong),
)
def test_errors_on_a_page_are_found(wrong: list[Block], session: Session) -> None:
    *before, last = wrong
    for each in before:
        session.execute(each)
    with pytest.raises(Exception):  # noqa: B017  each raises another exception
        session.execute(last)
