"""Explains a failed import of MLX, whose build for Linux is a separate package that the user chooses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import PurePath

# The packages with MLX's library on Linux. They contain the same files, so only one can be installed.
CPU_BUILD = "mlx-cpu"
CUDA_BUILDS = ("mlx-cuda-12", "mlx-cuda-13")


def unusable_mlx(error: BaseException) -> str | None:
    """Return what is wrong with MLX and the remedy, in one sentence; None if the error has another cause."""
    for cause in _causes(error):
        if isinstance(cause, ImportError) and _is_mlx(cause):
            return f"MLX cannot be used ({type(cause).__name__}: {cause}): {mlx_remedy()}"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_mlx(error: ImportError) -> bool:
    # A failed extension module has its file as the path, and only the last part of its name.
    folder = PurePath(error.path).parent.name if error.path else ""
    return error.name in ("mlx", "mlx.core") or (error.name == "core" and folder == "mlx")


def mlx_remedy() -> str:
    """Return how to install a build of MLX that works on this machine, as the rest of a sentence."""
    if sys.platform != "linux":
        return "it needs macOS 14 or newer on Apple silicon; reinstall it with `pip install --force-reinstall mlx`."
    installed = {dist.name: dist.version for dist in distributions()}
    mlx, cuda = installed.get("mlx"), " ".join(name for name in CUDA_BUILDS if name in installed)
    cpu = f"`pip install --force-reinstall --no-deps {CPU_BUILD}=={mlx}`"
    if mlx is not None and cuda:
        replace = f"`pip uninstall -y {cuda}` and {cpu}"
        return f"{cuda} needs an NVIDIA GPU with its driver; for a CPU, replace it with {replace}."
    if mlx is not None and CPU_BUILD in installed:
        return f"reinstall it with {cpu}."
    return (
        'install it for a CPU with `pip install "mlx-host[cpu]"`, or for an NVIDIA GPU with '
        '`pip install "mlx-host[cuda13]"` or `pip install "mlx-host[cuda12]"`.'
    )
