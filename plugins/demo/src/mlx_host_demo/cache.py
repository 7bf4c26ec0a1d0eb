"""Cache of converted models: folders that are built once, atomically."""

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
    """Return the cache folder: in $MLX_HOST_CACHE, by default in the user's cache folder of the platform."""
    root = os.environ.get("MLX_HOST_CACHE") or platformdirs.user_cache_dir("mlx-host", appauthor=False)
    return Path(root).expanduser() / "demo"


def build_once(key: str, build: Callable[[Path], None], on_wait: Callable[[], None]) -> Path:
    """Return the cached folder `key`, which `build` fills if it does not exist.

    Only one process builds a folder; `on_wait` is called before waiting for another one. A folder is renamed to `key`
    when it is complete, so an interrupted build leaves only a partial folder, which the next build deletes.
    """
    parent = cache_folder()
    folder = parent / key
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / f"{key}.lock", on_wait):
        if not folder.is_dir():
            for partial_folder in parent.glob(f"{key}.partial-*"):
                shutil.rmtree(partial_folder)
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
