"""Configuration of the whole test suite."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.plugin_projects import install_projects

ROOT = Path(__file__).parent
# The backends `scripted` and `echo`, which are installed for the tests only: users would see them in every list.
TEST_BACKENDS = (ROOT / "tests/support/scripted", ROOT / "examples/third-party-backend")
FOLDER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Install the backends for tests, and let Python write bytecode even if PYTHONDONTWRITEBYTECODE is set.

    The suite starts hundreds of processes. Without cached bytecode, each spends most of its time compiling its imports.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if find_spec("mlx_host_scripted") and find_spec("mlx_host_echo"):
        return  # scripts/check_oldest.py has installed them.
    if hasattr(config, "workerinput"):
        # A process of xdist inherits PYTHONPATH, but xdist replaces its sys.path.
        installed = os.environ["PYTHONPATH"].partition(os.pathsep)[0]
    else:
        config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="mlx-host-tests-"))
        installed = str(install_projects(config.stash[FOLDER], TEST_BACKENDS))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [installed, os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, installed)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the backends for tests."""
    if FOLDER in config.stash:
        shutil.rmtree(config.stash[FOLDER])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the size of the installed environments and the time that it took, which tests/packages records."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [each for report in reports for each in getattr(report, "user_properties", ())]
    installed = dict.fromkeys(value for name, value in properties if name == "installed")
    if installed:
        terminalreporter.section("installed")
    for line in installed:
        terminalreporter.line(str(line))
