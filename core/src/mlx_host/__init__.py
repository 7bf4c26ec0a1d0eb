"""mlx-host serves MLX models behind OpenAI's HTTP API; every model type and parser family is a plugin."""

from importlib.metadata import version

from mlx_host.hookspecs import hookimpl

__version__ = version("mlx-host")

__all__ = ["__version__", "hookimpl"]
