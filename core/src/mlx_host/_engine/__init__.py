"""Runs one model: the generation loop in a worker process, and the host's side of it."""

from mlx_host._engine.engine import Engine, WorkerExitedError
from mlx_host._engine.ipc import WorkerConfig
from mlx_host._engine.request_handle import RequestHandle

__all__ = ["Engine", "RequestHandle", "WorkerConfig", "WorkerExitedError"]
