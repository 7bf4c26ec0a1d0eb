"""Generates the overviews of the documentation: plugins, requests of each backend, release notes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from importlib.metadata import metadata
from pathlib import Path

from mlx_host._plugins.manager import Plugins
from mlx_host.requests import Request

from scripts.markdown import table

ROOT = Path(__file__).resolve().parent.parent


def release_notes() -> str:
    """Return CHANGELOG.md without its title."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2].strip()


def plugin_directory(plugins: Plugins, excluded: Collection[str]) -> str:
    """Return a table of the plugin distributions with what each provides, except core and `excluded`."""
    rows = []
    for distribution in sorted({info.distribution for info in plugins.loaded.values()}):
        if distribution == "mlx-host" or distribution in excluded:
            continue
        summary = (metadata(distribution)["Summary"] or "").rstrip(".")
        rows.append((f"`{distribution}`", _provided(plugins, distribution), summary))
    return table(("package", "provides", "description"), rows)


def _provided(plugins: Plugins, distribution: str) -> str:
    parsers = plugins.parsers
    families = {parsers.found[name].name for name in parsers.owned_by(distribution, parsers.found)}
    found = {
        "backend": plugins.backends.owned_by(distribution, plugins.backends.found),
        "API": plugins.apis.owned_by(distribution, plugins.apis.found),
        "parser": sorted(families),
    }
    named = [f"{kind} `{name}`" for kind, names in found.items() for name in names]
    return ", ".join(named) or "models"


def request_matrix(plugins: Plugins, backends: Iterable[str]) -> str:
    """Return a table of the request types that each backend supports."""
    names = list(backends)
    kinds: list[type[Request]] = []
    for name in names:
        kinds += [kind for kind in plugins.backends.found[name].supported_requests if kind not in kinds]
    return table(
        ("request", *(f"`{name}`" for name in names)),
        (
            (
                re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__.removesuffix("Request")).lower(),
                *("yes" if kind in plugins.backends.found[name].supported_requests else "no" for name in names),
            )
            for kind in kinds
        ),
    )
