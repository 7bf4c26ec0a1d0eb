"""Runs `mlx-host` as a command in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def import_path(plugins: Sequence[Path] = (), python: str = sys.executable) -> dict[str, str]:
    """PYTHONPATH with `plugins`; another Python does not get the plugins that are installed for the tests."""
    inherited = os.environ.get("PYTHONPATH", "") if python == sys.executable else ""
    return {"PYTHONPATH": os.pathsep.join([*map(str, plugins), *filter(None, [inherited])])}


def environment(
    extra: Mapping[str, str] | None = None, plugins: Sequence[Path] = (), python: str = sys.executable
) -> dict[str, str]:
    """This process's environment without mlx-host settings, and with `plugins` on the import path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLX_HOST_")}
    return {**kept, **import_path(plugins, python), "COLUMNS": "80", **(extra or {})}


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without the plugins that are installed for the tests, for pip and for other Pythons."""
    return environment(extra, python="another")


def mlx_host(
    *args: str,
    env: Mapping[str, str] | None = None,
    plugins: Sequence[Path] = (),
    cwd: Path | None = None,
    python: str = sys.executable,
    timeout: float = 120,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `mlx-host ARGS` until it exits; `stdin` is its input."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(
        [python, "-m", "mlx_host", *args],
        **given,
        capture_output=True,
        text=True,
        env=environment(env, plugins, python),
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


def usage_error_of(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a usage error, after checking that it is one line and that the exit code is 2."""
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert result.stdout == ""
    first, *rest = result.stderr.splitlines()
    assert first.startswith("Error: "), result.stderr
    assert rest in ([], ["Try `mlx-host run --help`."], ["Try `mlx-host --help`."]), result.stderr
    return first.removeprefix("Error: ")
