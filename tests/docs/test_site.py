"""The built documentation site: every marker is expanded, links resolve, and nothing is loaded from another host."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from scripts.build_docs import render_page, write_pages
from scripts.terminal_svg import final_screen
from tests.docs.blocks import NOT_RUN, ROOT


class Page(HTMLParser):
    """The ids, links, loaded resources, code and comments of a built page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.code: list[str] = []
        self.comments: list[str] = []
        self._code_depth = 0
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "code":
            self._code_depth += 1
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.resources.append(values["href"])
        elif tag in ("script", "img", "iframe", "object", "source", "video") and (
            values.get("src") or "data" in values
        ):
            self.resources.append(values.get("src") or values["data"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "code":
            self._code_depth -= 1

    def handle_data(self, data: str) -> None:
        if self._code_depth:
            self.code.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as CONTRIBUTING.md describes, and return its folder."""
    output = tmp_path_factory.mktemp("build")
    command = [sys.executable, "-m", "scripts.build_docs", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return output / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """The built pages by path."""
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_is_built(site: Path, pages: dict[Path, Page]) -> None:
    for source in (ROOT / "docs").rglob("*.md"):
        name = source.relative_to(ROOT / "docs").with_suffix("")
        assert site / ("index.html" if name.name == "index" else name / "index.html") in pages


def test_no_marker_is_left(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [comment for comment in page.comments if "reference:" in comment], path
        assert "reference: " not in re.sub(r"<code>.*?</code>", "", path.read_text()).partition("<main")[2], path


def test_code_has_no_escaped_pipe(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [code for code in page.code if r"\|" in code], path


def test_no_title_of_the_test_runner_is_shown(pages: dict[Path, Page]) -> None:
    for path in pages:
        assert NOT_RUN not in path.read_text(encoding="utf-8"), path


def test_internal_links_and_resources_resolve(site: Path, pages: dict[Path, Page]) -> None:
    checked = 0
    for path, page in pages.items():
        for link in (*page.links, *page.resources):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            # 404.html is served at any path, so that its links start at the root.
            base = site if parts.path.startswith("/") else path.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            assert target.is_file(), f"{path}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path}: {link}"
            checked += 1
    assert checked > 500


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        remote = [resource for resource in page.resources if urlsplit(resource).netloc]
        assert not remote, f"{path} loads {remote}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_llms_txt_links_to_every_page(site: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text(encoding="utf-8"))
    assert sorted(links) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
    for link in links:
        assert "<!-- reference:" not in (site / link).read_text(encoding="utf-8")


def test_an_unknown_section_is_an_error() -> None:
    with pytest.raises(KeyError, match="no-such-section"):
        render_page("<!-- reference: no-such-section -->")


def test_pages_are_expanded_and_other_files_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "docs", tmp_path / "build"
    (source / "assets").mkdir(parents=True)
    (source / "page.md").write_text(f'<!-- reference: parsers -->\n\n```sh title="{NOT_RUN}: slow"\ntrue\n```\n')
    (source / "assets" / "image.bin").write_bytes(b"\x00\xff")
    write_pages(source, target)
    text = (target / "page.md").read_text()
    assert "| `hermes` |" in text
    assert text.endswith("```sh\ntrue\n```\n")
    assert (target / "assets" / "image.bin").read_bytes() == b"\x00\xff"


def test_redrawn_lines_are_recorded_once() -> None:
    output = "a\r\nload 0\r\nwarm 0\r\x1b[2K\x1b[1A\x1b[2Kload 1\r\nwarm 1\r\n\x1b[?25h"
    assert final_screen(output) == "a\nload 1\nwarm 1"
