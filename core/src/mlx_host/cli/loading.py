"""Shows how loading goes: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mlx_host.engine.messages import Loading

log = logging.getLogger("mlx_host.loading")

# A line is worth it when so much more of a stage is done.
LINE_EVERY = 0.25


class LoadingDisplay:
    """One bar (or series of lines) for each stage of each model; a context while bars may be drawn."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._said: dict[tuple[str, str], float] = {}
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
            self._bars = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)

    def __enter__(self) -> LoadingDisplay:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def for_model(self, name: str) -> Callable[[Loading], None]:
        """Make the listener for one model."""
        return lambda loading: self._show(name, loading)

    def _show(self, name: str, loading: Loading) -> None:
        key = (name, loading.stage)
        if self._bars is not None and self._bars.live.is_started:
            if key not in self._tasks:
                self._tasks[key] = self._bars.add_task(f"{name}: {loading.stage}", total=loading.total)
            self._bars.update(self._tasks[key], completed=loading.done, total=loading.total)
            return
        share = loading.done / loading.total if loading.total else 1.0
        if key not in self._said or share >= 1.0 > self._said[key] or share - self._said[key] >= LINE_EVERY:
            self._said[key] = share
            log.info("%s: %s %d of %d %s", name, loading.stage, loading.done, loading.total, loading.note)
