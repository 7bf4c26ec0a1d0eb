"""Shows on a terminal how the pictures that are being made get on: a bar for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mlx_host import _logs
from mlx_host.events import Event, FinishedImage, ImagesStarted
from mlx_host.events import Progress as StepProgress

Watch = Callable[[Event], None]


class Bars:
    """The bars of all requests; where the log is on no terminal there are none."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._watched = 0

    @contextmanager
    def watch(self, model: str, n: int) -> Iterator[Watch]:
        """Draw the `n` pictures of a request as its events tell, which the context is called with."""
        console = _logs.terminal()
        if console is None:
            yield lambda event: None
            return
        if self._progress is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("step {task.completed} of {task.total}"),
            )
            # Each step draws; a thread to do so in between is not worth it.
            self._progress = Progress(
                *columns, TimeElapsedColumn(), console=console, transient=True, auto_refresh=False
            )
            self._progress.start()
        self._watched += 1
        one = _Watched(model, n, self._progress)
        try:
            yield one.take
        finally:
            one.close()
            self._watched -= 1
            if not self._watched:
                self._progress.stop()
                self._progress = None


class _Watched:
    """The bar of the picture that a request is at."""

    def __init__(self, model: str, n: int, progress: Progress) -> None:
        self._model = model
        self._n = n
        self._progress = progress
        self._steps = 0
        self._bar: TaskID | None = None

    def take(self, event: Event) -> None:
        match event:
            case ImagesStarted(steps=steps):
                self._steps = steps
                self._begin(0)
            case StepProgress(done=step):
                if self._bar is not None:
                    self._progress.update(self._bar, completed=step, refresh=True)
            case FinishedImage(image):
                self.close()
                if image + 1 < self._n:
                    self._begin(image + 1)

    def _begin(self, image: int) -> None:
        name = f"{self._model}: picture {image + 1} of {self._n}"
        self._bar = self._progress.add_task(name, total=self._steps)
        self._progress.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None
