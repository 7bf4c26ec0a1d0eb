"""Runs one loaded model: the loop that advances its generators, in a child process, and the way to it."""

from mlx_host._engine.engine import Answer, Engine
from mlx_host._engine.ipc import Launch

__all__ = ["Answer", "Engine", "Launch"]
