"""What holds for the whole suite."""

from __future__ import annotations

import os
import sys


def pytest_configure() -> None:
    """Let Python keep what it compiles, even where it is told not to.

    The suite starts some hundred processes. Each spends most of its time compiling what it imports, unless the first
    one leaves that for the others.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
