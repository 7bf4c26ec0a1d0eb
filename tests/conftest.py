"""Configuration of the whole test suite."""

from __future__ import annotations

import os
import sys


def pytest_configure() -> None:
    """Let Python write bytecode even if PYTHONDONTWRITEBYTECODE is set.

    The suite starts hundreds of processes. Without cached bytecode, each spends most of its time compiling its imports.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
