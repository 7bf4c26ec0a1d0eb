"""Builds folders atomically and once in the user's cache."""

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
    """Return the cache folder of the demo models, in $MLX_HOST_CACHE or by default in the user's cache folder."""
    root = os.environ.get("MLX_HOST_CACHE") or platformdirs.user_cache_dir("mlx-host", appauthor=False)
    return Path(root).expanduser() / "demo"


def build_once(key: str, build: Callable[[Path], None], on_wait: Callable[[], None]) -> Path:
    """Return the cached folder `key`; if it does not exist, call `build` to fill it.

    Only one process builds a folder. The folder is renamed to `key` when it is complete, so a killed build leaves no
    incomplete folder of that name. `on_wait` is called before waiting for another process that is building the folder.
    """
    parent = cache_folder()
    folder = parent / key
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / f"{key}.lock", on_wait):
        if not folder.is_dir():
            for killed_build in parent.glob(f"{key}.partial-*"):
                shutil.rmtree(killed_build)
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
