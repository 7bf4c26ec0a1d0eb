"""The installed plugins that the reference describes."""

from __future__ import annotations

from functools import cache
from typing import Any

from mlx_host._cli import discover
from mlx_host._plugins.manager import Plugins
from mlx_host.backend import Backend

# Installed by the tests, and not documented.
NOT_OURS = ("mlx-host-scripted", "mlx-host-echo")


@cache
def plugins() -> Plugins:
    return discover()


def backends() -> dict[str, Backend[Any]]:
    """The backends of this repository by name."""
    found = plugins().backends
    return {name: found.found[name] for name in sorted(found.found) if found.owners[name].distribution not in NOT_OURS}
