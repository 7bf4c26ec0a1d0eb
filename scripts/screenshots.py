"""Takes the screenshots of a running server and of the built site: `uv run python -m scripts.screenshots`.

Writes them to docs/assets. Needs Chromium (`apt-get install chromium`) and port 8000. The terminal is recorded by
scripts/terminal_svg.py.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from scripts.chromium import chromium
from tests.support.server import FAST_BLAS, running_server

ASSETS = Path(__file__).resolve().parent.parent / "docs" / "assets"
SERVER = ("--backend", "lm", "--model", "demo:smollm2", "--port", "8000")


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def take(url: str, name: str, width: int, height: int) -> None:
    """Write a screenshot of a page."""
    chromium(f"--window-size={width},{height}", f"--screenshot={ASSETS / name}", url)


def main() -> None:
    with running_server(*SERVER, *FAST_BLAS) as server:
        take(f"{server.url}/", "home-page.png", 1000, 700)
        take(f"{server.url}/docs", "api-docs.png", 1000, 700)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "scripts.build_docs", "--output", folder], check=True)
        handler = functools.partial(QuietHandler, directory=f"{folder}/site")
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
            threading.Thread(target=http.serve_forever, daemon=True).start()
            take(f"http://127.0.0.1:{http.server_port}/", "site.png", 1280, 800)
            http.shutdown()


if __name__ == "__main__":
    main()
