"""Shows a progress bar for every running image request, if the log is written to a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mlx_host import _logs
from mlx_host.events import Event, ImageCompleted, ImagesStarted
from mlx_host.events import Progress as StepProgress


class ProgressBars:
    """The progress bars of all requests, on the log's terminal; it is used only while there is a bar."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def add(self, description: str, steps: int) -> TaskID | None:
        """Add a bar; None if the log is not written to a terminal."""
        console = _logs.terminal()
        if console is None:
            return None
        if self._progress is None:
            # Refreshed at every step, without rich's refresh thread.
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("step {task.completed} of {task.total}"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
                auto_refresh=False,
            )
            self._progress.start()
        bar = self._progress.add_task(description, total=steps)
        self._progress.refresh()
        return bar

    def update(self, bar: TaskID, step: int) -> None:
        """Update and redraw a bar."""
        assert self._progress is not None
        self._progress.update(bar, completed=step, refresh=True)

    def remove(self, bar: TaskID) -> None:
        """Remove a bar; removing the last one releases the terminal."""
        assert self._progress is not None
        self._progress.remove_task(bar)
        if not self._progress.tasks:
            self._progress.stop()
            self._progress = None


class ProgressContext:
    """The bar of one request: it shows the current image, and is removed when the context is left."""

    def __init__(self, bars: ProgressBars, model: str, n: int) -> None:
        self._bars = bars
        self._model = model
        self._n = n
        self._steps = 0
        self._bar: TaskID | None = None

    def update(self, event: Event) -> None:
        """Process one event of the request."""
        match event:
            case ImagesStarted(steps=steps):
                self._steps = steps
                self._show(0)
            case StepProgress(stage="image", done=step) if self._bar is not None:
                self._bars.update(self._bar, int(step))
            case ImageCompleted(image) if image + 1 < self._n:
                self._show(image + 1)

    def _show(self, image: int) -> None:
        previous = self._bar
        self._bar = self._bars.add(f"{self._model}: image {image + 1} of {self._n}", self._steps)
        if previous is not None:
            self._bars.remove(previous)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bars.remove(self._bar)
            self._bar = None
