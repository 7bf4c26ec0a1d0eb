"""Where log lines go: coloured on a terminal, plain otherwise, and into a file that rotates."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from mlx_host.errors import UsageError

ROTATE_BYTES = 500 * 1000 * 1000
KEEP_SECONDS = 10 * 24 * 3600
PLAIN = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class RotatedLog(RotatingFileHandler):
    """A log file that is set aside under the time at `max_bytes`; what is older than `keep` seconds goes."""

    def __init__(self, path: Path, max_bytes: int = ROTATE_BYTES, keep: float = KEEP_SECONDS) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A backup count of zero would make the base class truncate instead of rotate.
        super().__init__(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8")
        self._path = Path(self.baseFilename)
        self._keep = keep

    def doRollover(self) -> None:
        if self.stream:
            self.stream.close()
            self.stream = None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target, number = self._path.with_name(f"{self._path.name}.{stamp}"), 0
        while target.exists():
            number += 1
            target = self._path.with_name(f"{self._path.name}.{stamp}.{number}")
        self._path.rename(target)
        self.drop_old(time.time())

    def drop_old(self, now: float) -> None:
        """Delete the files that were set aside more than `keep` seconds before `now`."""
        set_aside = re.compile(re.escape(self._path.name) + r"\.\d{8}-\d{6}(\.\d+)?")
        for file in list(self._path.parent.iterdir()):
            if set_aside.fullmatch(file.name):
                # Another host that logs here may be first.
                with contextlib.suppress(FileNotFoundError):
                    if now - file.stat().st_mtime > self._keep:
                        file.unlink()


def set_up(level: str, log_file: Path | None) -> None:
    """Send this process's log to standard error and, if asked, to a file; UsageError if that cannot be written."""
    screen: logging.Handler
    if sys.stderr.isatty():
        screen = RichHandler(
            console=Console(stderr=True), show_path=False, log_time_format="%Y-%m-%d %H:%M:%S", rich_tracebacks=True
        )
        screen.setFormatter(logging.Formatter("%(message)s"))
    else:
        screen = logging.StreamHandler(sys.stderr)
        screen.setFormatter(logging.Formatter(PLAIN))
    handlers: list[logging.Handler] = [screen]
    if log_file is not None:
        handlers.append(_file_handler(log_file))
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    # Each of our own requests has its line already.
    logging.getLogger("uvicorn.access").disabled = True
    for noisy in ("uvicorn.error", "httpx", "httpcore", "filelock", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _file_handler(path: Path) -> RotatedLog:
    try:
        file = RotatedLog(path.expanduser())
    except OSError as error:
        raise UsageError(
            f"--log-file {str(path)!r} cannot be written: {error.strerror or error}; "
            "choose another, or none with --no-log-file."
        ) from error
    file.setFormatter(logging.Formatter(PLAIN))
    file.drop_old(time.time())
    return file


def terminal() -> Console | None:
    """The console that the log is drawn on, if that is a terminal; what else is drawn there must share it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RichHandler):
            return handler.console
    return None
