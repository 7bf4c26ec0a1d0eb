"""Runs one loaded model: the loop that advances its generators, in a child process, and the way to it."""

from mlx_host.engine.client import Answer, Engine
from mlx_host.engine.messages import Launch, ModelInfo

__all__ = ["Answer", "Engine", "Launch", "ModelInfo"]
