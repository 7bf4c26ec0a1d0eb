"""Generates the overviews: plugins, parsers, the requests that each backend supports, and the release notes."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

from mlx_host.parsing import Parser

from scripts.markdown import table
from scripts.reference.installed import NOT_OURS, backends, plugins

ROOT = Path(__file__).resolve().parents[2]


def release_notes() -> str:
    """Return CHANGELOG.md without its title."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2].strip()


def plugin_directory() -> str:
    """Return a table of this repository's plugin packages and of what each provides, without core."""
    rows = []
    for distribution in sorted({info.distribution for info in plugins().loaded.values()}):
        if distribution == "mlx-host" or distribution in NOT_OURS:
            continue
        summary = (metadata(distribution)["Summary"] or "").rstrip(".")
        rows.append((f"`{distribution}`", _provided(distribution), summary))
    return table(("package", "provides", "description"), rows)


def _provided(distribution: str) -> str:
    installed = plugins()
    names = installed.parsers.owned_by(distribution, installed.parsers.found)
    families = {installed.parsers.found[name].name for name in names}
    found = {
        "backend": installed.backends.owned_by(distribution, installed.backends.found),
        "API": installed.apis.owned_by(distribution, installed.apis.found),
        "parser": sorted(families),
    }
    named = [f"{kind} `{name}`" for kind, names in found.items() for name in names]
    return ", ".join(named) or "models"


def request_matrix() -> str:
    """Return a table of the request types that each backend supports."""
    supported = {name: backend.supported_requests for name, backend in backends().items()}
    kinds = list(dict.fromkeys(kind for requests in supported.values() for kind in requests))
    return table(
        ("request", *(f"`{name}`" for name in supported)),
        (
            (
                re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__.removesuffix("Request")).lower(),
                *("yes" if kind in requests else "no" for requests in supported.values()),
            )
            for kind in kinds
        ),
    )


def parsers() -> str:
    found = plugins().parsers
    families = sorted(set(found.found.values()), key=lambda parser: parser.name)
    return table(
        ("parser", "aliases", "extracts", "forced calls"),
        (
            (
                f"`{family.name}`",
                ", ".join(f"`{alias}`" for alias in family.aliases),
                family.description,
                "yes" if family.grammar is not Parser.grammar else "no",
            )
            for family in families
        ),
    )
