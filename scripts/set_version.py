"""Sets the version of all packages: `uv run python -m scripts.set_version 0.2.0`.

It rewrites the version of each package, the exact versions with which they depend on each other, and, in the examples
and the documentation, the range of mlx-host that a third-party plugin declares. With `--repository URL`, it also writes
the URLs that the package index shows.
"""

import argparse
import re
import tomllib
from pathlib import Path

from mlx_host._plugins.contract import contract_range
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r'^version = "[^"]+"$', re.MULTILINE)
PIN = re.compile(r'"(mlx-host[a-z0-9-]*)==[^";]+')
RANGE = re.compile(r'"mlx-host>=[0-9.]+,<[0-9.]+"')
URLS = re.compile(r"\n\[project\.urls\]\n(?:\w+ = .*\n)+")


def projects(root: Path) -> list[Path]:
    """Return the pyproject.toml of the workspace and of each of its packages."""
    members = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["workspace"]["members"]
    return [root / "pyproject.toml", *(root / member / "pyproject.toml" for member in members)]


def pages(root: Path) -> list[Path]:
    """Return the pages with plugins as third parties write them."""
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [path for path in found if RANGE.search(path.read_text(encoding="utf-8"))]


def set_version(root: Path, version: str) -> None:
    """Rewrite the files below a root."""
    contract = f'"mlx-host{contract_range(version)}"'
    for path in projects(root):
        text = path.read_text(encoding="utf-8")
        text, replaced = VERSION.subn(f'version = "{version}"', text, count=1)
        if not replaced:
            raise SystemExit(f'{path} has no line `version = "…"`')
        text = PIN.sub(rf'"\g<1>=={version}', text)
        path.write_text(RANGE.sub(contract, text), encoding="utf-8")
    for path in pages(root):
        path.write_text(RANGE.sub(contract, path.read_text(encoding="utf-8")), encoding="utf-8")


def set_urls(root: Path, repository: str) -> None:
    """Rewrite the project URLs of all packages."""
    repository = repository.rstrip("/")
    urls = {
        "Homepage": repository,
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
    }
    table = "\n[project.urls]\n" + "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    for path in projects(root)[1:]:
        text = URLS.sub("", path.read_text(encoding="utf-8"))
        # Before the next table, since the keys above it belong to [project].
        head, following, rest = text.partition("\n[project.")
        if not following:
            head, following, rest = text.partition("\n[tool.")
        path.write_text(head + table + following + rest, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("version", help="such as 0.2.0")
    parser.add_argument("--repository", metavar="URL", help="the address of the repository, for the project URLs")
    arguments = parser.parse_args()
    version: str = arguments.version
    repository: str | None = arguments.repository
    try:
        normalized = str(Version(version))
    except InvalidVersion:
        parser.error(f"{version!r} is not a version; use MAJOR.MINOR.PATCH, such as 0.2.0")
    if repository is not None and not repository.startswith("https://"):
        parser.error(f"--repository {repository!r} is not a URL; it must begin with https://")
    set_version(ROOT, normalized)
    if repository is not None:
        set_urls(ROOT, repository)


if __name__ == "__main__":
    main()
