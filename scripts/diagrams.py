"""Draws docs/diagrams/*.mmd as docs/assets/*.svg with Mermaid: `uv run python -m scripts.diagrams`.

Needs Chromium (`apt-get install chromium`) and npm, which downloads Mermaid. The SVGs are committed, so that the site
loads no script for them; each contains the hash of its source, which a test compares.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

from scripts.chromium import chromium

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "docs" / "diagrams"
TARGET = ROOT / "docs" / "assets"
MERMAID = "mermaid@11.17.2"
# No HTML in labels: an SVG that is shown as an image cannot contain it in every browser.
OPTIONS = {
    "startOnLoad": False,
    "theme": "neutral",
    "htmlLabels": False,
    "flowchart": {"htmlLabels": False},
    "fontFamily": "system-ui, sans-serif",
}
PAGE = """<!doctype html><meta charset="utf-8"><body><script src="mermaid.min.js"></script><script>
mermaid.initialize({options});
mermaid.render({name}, {source}).then(({{ svg }}) => {{ document.body.innerHTML = svg; }});
</script></body>"""


def digest(source: str) -> str:
    """Return the hash that identifies a diagram's source in its SVG."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def draw(name: str, source: str, folder: Path) -> str:
    """Return the SVG of a diagram; `folder` has Mermaid's script."""
    page = folder / "page.html"
    page.write_text(PAGE.format(options=json.dumps(OPTIONS), name=json.dumps(name), source=json.dumps(source)))
    output = chromium("--dump-dom", "--allow-file-access-from-files", page.as_uri())
    svg = re.search(r"<svg.*</svg>", output, re.DOTALL)
    assert svg is not None, f"Mermaid has drawn nothing for {name}:\n{output[:2000]}"
    return f"<!-- {digest(source)} -->\n{svg[0]}\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(["npm", "pack", "--silent", MERMAID], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as package:
            package.extract("package/dist/mermaid.min.js", folder, filter="data")
        (folder / "package/dist/mermaid.min.js").rename(folder / "mermaid.min.js")
        for path in sorted(SOURCES.glob("*.mmd")):
            (TARGET / f"{path.stem}.svg").write_text(draw(path.stem, path.read_text(), folder))


if __name__ == "__main__":
    main()
