"""Pins every version in uv.lock in the root pyproject.toml, since the lock file itself is not kept.

Run it after `uv lock`. Packages of the workspace are left out.
"""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"constraint-dependencies = \[\n.*?^\]\n", re.DOTALL | re.MULTILINE)


def pins(lock: str) -> list[str]:
    """Read a lock file; return a requirement for each package, with markers where a package has several versions."""
    packages = [each for each in tomllib.loads(lock)["package"] if "registry" in each["source"]]
    found = []
    for package in packages:
        markers = package.get("resolution-markers", [])
        several = sum(each["name"] == package["name"] for each in packages) > 1
        marker = f"; ({') or ('.join(markers)})" if several and markers else ""
        found.append(f"{package['name']}=={package['version']}{marker}")
    return sorted(found)


def main() -> None:
    """Rewrite the block."""
    path = ROOT / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    # TOML's strings and JSON's are alike for what is in a requirement.
    lines = "".join(f"    {json.dumps(pin)},\n" for pin in pins(lock))
    block = f"constraint-dependencies = [\n{lines}]\n"
    if not BLOCK.search(text):
        raise SystemExit("pyproject.toml has no constraint-dependencies list under [tool.uv]")
    path.write_text(BLOCK.sub(lambda _: block, text), encoding="utf-8")


if __name__ == "__main__":
    main()
