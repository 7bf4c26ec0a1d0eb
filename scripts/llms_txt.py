"""Writes llms.txt and the pages as Markdown into the built site, for language models; see llmstxt.org."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_llms_txt(config: Path, pages: Path, site: Path) -> None:
    """Copy the pages of `pages` to `site`, and list them in llms.txt in the order of the navigation."""
    project = tomllib.loads(config.read_text(encoding="utf-8"))["project"]
    lines = [f"# {project['site_name']}", "", f"> {project['site_description']}"]
    for section, names in sections(project["nav"]):
        lines += ["", f"## {section}", ""]
        for name in names:
            text = (pages / name).read_text(encoding="utf-8")
            target = site / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pages / name, target)
            lines.append(f"- [{_title(text)}]({name}){_summary(text)}")
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def sections(nav: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the pages of each section; single pages at the top level come first, in one section."""
    single = [pages for entry in nav for pages in entry.values() if isinstance(pages, str)]
    yield "Start", single
    for entry in nav:
        for title, pages in entry.items():
            if not isinstance(pages, str):
                yield title, pages


def _title(text: str) -> str:
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found[1] if found else "Home"


def _summary(text: str) -> str:
    """Return the first sentence of a page, after a colon."""
    _, _, body = text.partition("\n# ")
    paragraphs = (body or text).split("\n\n")[1:]
    plain = next((each for each in paragraphs if re.match(r"[A-Z`]", each)), "")
    sentence = re.match(r"(.+?[.:])(\s|$)", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", plain).replace("\n", " "))
    return f": {sentence[1].rstrip(':')}" if sentence else ""
