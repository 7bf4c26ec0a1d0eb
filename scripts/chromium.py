"""Runs headless Chromium for scripts that draw pages; `apt-get install chromium` installs it on Debian."""

from __future__ import annotations

import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium(*args: str) -> str:
    """Return the output of Chromium; pages have ten seconds to load."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise SystemExit(f"Chromium is not installed; looked for {', '.join(NAMES)}.")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=10000")
    done = subprocess.run(
        [program, *options, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout
