"""Checks with deptry that each package declares what it imports, and nothing else.

Run it with `uv run python -m scripts.check_dependencies`. Exceptions are under [tool.deptry] of the packages.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.set_version import ROOT, projects


def check(folder: Path) -> str:
    """Return deptry's report on a package; empty if there are no problems."""
    # deptry takes the folder of the modules, or the folder above a package, as the place of the package's own modules.
    sources = "src" if (folder / "src").is_dir() else "."
    command = [sys.executable, "-m", "deptry", "--no-ansi", sources]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{folder.relative_to(ROOT)}\n{done.stdout}{done.stderr}"


def main() -> None:
    # mlx-host-parsers consists of its dependencies.
    folders = [path.parent for path in projects(ROOT)[1:] if path.parent.name != "all"]
    with ThreadPoolExecutor(2) as pool:
        reports = [report for report in pool.map(check, folders) if report]
    if reports:
        raise SystemExit("\n".join(reports))


if __name__ == "__main__":
    main()
