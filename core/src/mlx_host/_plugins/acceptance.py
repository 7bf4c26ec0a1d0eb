"""Which backends can load a model folder, as they report with `Backend.accepts`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_host.backend import Backend
from mlx_host.errors import LoadError

log = logging.getLogger(__name__)


def check_accepted(backend: Backend[Any], backends: Mapping[str, Backend[Any]], ref: str, path: Path) -> None:
    """Raise LoadError if a backend cannot load the model at `path`; it names the backends that can."""
    accepted, reason = _accepts(backend, path)
    if accepted is not False:
        return
    others = accepting_backends(backends, path)
    hint = f" Use {' or '.join(f'--backend {name}' for name in others)}." if others else ""
    raise LoadError(f"Backend {backend.name!r} cannot load {ref!r}: {reason}.{hint}")


def accepting_backends(backends: Mapping[str, Backend[Any]], path: Path) -> list[str]:
    """Return the names of the backends that report that they can load the model at `path`."""
    return sorted(name for name, backend in backends.items() if _accepts(backend, path)[0])


def _accepts(backend: Backend[Any], path: Path) -> tuple[bool | None, str]:
    """Return whether a backend accepts a model, None if it does not know, and the reason."""
    if backend.accepts is None:
        return None, ""
    try:
        reason = backend.accepts(path)
    except Exception:
        # A plugin's bug here must not prevent the model from loading.
        log.exception("backend %r: accepts failed", backend.name)
        return None, ""
    return reason is None, (reason or "").rstrip(".")
