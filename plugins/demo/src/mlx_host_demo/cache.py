"""Folders that are built once, whole or not at all, in the user's cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
from filelock import FileLock, Timeout


def cache_folder() -> Path:
    """The folder of the demo models, in $MLX_HOST_CACHE or else where this system keeps a user's caches."""
    root = os.environ.get("MLX_HOST_CACHE") or platformdirs.user_cache_dir("mlx-host", appauthor=False)
    return Path(root).expanduser() / "demo"


def build_once(key: str, build: Callable[[Path], None], on_wait: Callable[[], None]) -> Path:
    """Return the cached folder `key`; the first caller of all processes has `build` fill it.

    The folder gets its name when it is complete, so a build that is killed counts for nothing. `on_wait` is called
    before waiting for another process that is building the same folder.
    """
    parent = cache_folder()
    folder = parent / key
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / f"{key}.lock", on_wait):
        if not folder.is_dir():
            for leftover in parent.glob(f"{key}.partial-*"):
                shutil.rmtree(leftover)
            with TemporaryDirectory(prefix=f"{key}.partial-", dir=parent) as partial:
                built = Path(partial) / key
                built.mkdir()
                build(built)
                built.rename(folder)
    return folder


@contextmanager
def _locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
