"""Shows the progress of loading: bars on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

from rich import filesize
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from mlx_host import _logs
from mlx_host._engine.ipc import Loading

log = logging.getLogger("mlx_host.loading")

# A line is logged after each of these fractions of a stage.
LOG_INTERVAL = 0.25
UNITS = ("files", "tokens", "steps")


class LoadingDisplay:
    """A progress bar, or a series of log lines, for the stage of each model; bars are drawn inside the context.

    Create it after logging has been configured: bars and log lines share the console.
    """

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._logged: dict[tuple[str, str], int] = {}
        console = _logs.terminal()
        if console is not None:
            columns = (
                TextColumn("{task.description}", table_column=_column(34)),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[amount]}", table_column=_column(20)),
                TimeElapsedColumn(),
            )
            self._bars = Progress(*columns, console=console, transient=True)

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
        """Return the progress callback for one model."""
        return lambda loading: self._show(name, loading)

    def _show(self, name: str, loading: Loading) -> None:
        if self._bars is not None and self._bars.live.is_started:
            self._draw(self._bars, name, loading)
        else:
            self._log(name, loading)

    def _draw(self, bars: Progress, name: str, loading: Loading) -> None:
        """Update the bar of a stage; a finished stage has none."""
        key = (name, loading.stage)
        if loading.total and loading.done >= loading.total:
            if key in self._tasks:
                bars.remove_task(self._tasks.pop(key))
            return
        if key not in self._tasks:
            self._tasks[key] = bars.add_task(f"{name}: {loading.stage}", amount="")
        bars.update(self._tasks[key], completed=loading.done, total=loading.total or None, amount=_amount(loading))

    def _log(self, name: str, loading: Loading) -> None:
        key = (name, loading.stage)
        fraction = _fraction(loading.done, loading.total)
        # The total can grow, so the logged fraction is computed again.
        logged = _fraction(self._logged[key], loading.total) if key in self._logged else None
        # A stage returns to zero when the model is restarted.
        if logged is None or fraction == 0.0 < logged or fraction - logged >= LOG_INTERVAL or fraction >= 1.0 > logged:
            self._logged[key] = loading.done
            log.info("%s: %s %s", name, loading.stage, _amount(loading))


def _column(width: int) -> Column:
    return Column(no_wrap=True, overflow="ellipsis", max_width=width)


def _fraction(done: int, total: int) -> float:
    return done / total if total else 1.0


def _amount(loading: Loading) -> str:
    if loading.note == "bytes":
        return f"{filesize.decimal(loading.done)} of {filesize.decimal(loading.total)}"
    # A detail such as a file name is not a unit, and a path would fill the line.
    unit = loading.note if loading.note in UNITS else ""
    return f"{loading.done} of {loading.total} {unit}".rstrip()
