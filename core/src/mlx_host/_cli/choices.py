"""What a user can choose from: the installed backends, and models to try with each."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from pathlib import Path

from mlx_host._plugins.acceptance import accepting_backends
from mlx_host._plugins.manager import Plugins


def without_backend(plugins: Plugins, model: str | None, where: str, *, in_file: bool) -> str:
    """Return the error for a missing `--backend`: it lists the backends, or those that can load a local model.

    `where` is where the setting belongs in a configuration file; `in_file` is whether a file is used.
    """
    backends = plugins.backends.found
    lines = [f"--backend is required; set it on the command line, as MLX_HOST_BACKEND or in {where}."]
    path = Path(os.path.expanduser(model)) if model is not None else None
    if path is not None and path.exists() and (names := accepting_backends(backends, path)):
        return f"{lines[0]} {model!r} can be loaded with {' or '.join(f'--backend {name}' for name in names)}."
    if not backends:
        return f"{lines[0]} No backend is installed; install one, for example: pip install mlx-host-lm"
    if in_file:
        return f"{lines[0]} Installed backends: {', '.join(sorted(backends))}."
    width = max(map(len, backends))
    lines.append("Installed backends:")
    lines += [
        # The rest of a summary lists features.
        f"  {name:{width}}  {backend.summary.partition(': ')[0]}".rstrip()
        for name, backend in sorted(backends.items())
    ]
    if commands := list(_commands(plugins)):
        lines += ["For example:", *(f"  {command}" for command in commands)]
    return "\n".join(lines)


def _commands(plugins: Plugins) -> Iterator[str]:
    """Yield a command for each backend that has an example."""
    for name, backend in sorted(plugins.backends.found.items()):
        for model in plugins.examples(backend)[:1]:
            yield f"mlx-host run --backend {name} --model {model}"
