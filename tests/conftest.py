"""Configuration of the whole test suite."""

from __future__ import annotations

import os
import sys

import pytest


def pytest_configure() -> None:
    """Let Python write bytecode even if PYTHONDONTWRITEBYTECODE is set.

    The suite starts hundreds of processes. Without cached bytecode, each spends most of its time compiling its imports.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the size of the installed environments and the time that it took, which tests/packages records."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [each for report in reports for each in getattr(report, "user_properties", ())]
    installed = dict.fromkeys(value for name, value in properties if name == "installed")
    if installed:
        terminalreporter.section("installed")
    for line in installed:
        terminalreporter.line(str(line))
