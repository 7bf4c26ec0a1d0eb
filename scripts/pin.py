"""Pins every version in uv.lock in the root pyproject.toml, because the lock file is not in the repository.

Run it after `uv lock`. Packages of the workspace are omitted.
"""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"constraint-dependencies = \[\n.*?^\]\n", re.DOTALL | re.MULTILINE)


def pins(lock: str) -> list[str]:
    """Return a requirement for each package of a lock file, with markers if a package has several versions."""
    packages = [each for each in tomllib.loads(lock)["package"] if "registry" in each["source"]]
    found = []
    for package in packages:
        markers = package.get("resolution-markers", [])
        several = sum(each["name"] == package["name"] for each in packages) > 1
        marker = f"; ({') or ('.join(markers)})" if several and markers else ""
        found.append(f"{package['name']}=={package['version']}{marker}")
    return sorted(found)


def main() -> None:
    """Rewrite the list of pins in pyproject.toml."""
    path = ROOT / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    # For the characters of a requirement, JSON strings are TOML strings.
    lines = "".join(f"    {json.dumps(pin)},\n" for pin in pins(lock))
    block = f"constraint-dependencies = [\n{lines}]\n"
    if not BLOCK.search(text):
        raise SystemExit("pyproject.toml has no constraint-dependencies list under [tool.uv]")
    path.write_text(BLOCK.sub(lambda _: block, text), encoding="utf-8")


if __name__ == "__main__":
    main()
