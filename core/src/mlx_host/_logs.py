"""Logging: coloured on a terminal, plain otherwise, and to a rotating file."""

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

MAX_FILE_BYTES = 500 * 1000 * 1000
RETENTION_SECONDS = 10 * 24 * 3600
PLAIN_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class TimestampedRotatingFileHandler(RotatingFileHandler):
    """Writes a log file that is renamed to `<name>.<time>` when it reaches `max_bytes`.

    Renamed files are deleted after `retention` seconds.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_FILE_BYTES, retention: float = RETENTION_SECONDS) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # With a backup count of zero, the base class would never roll over.
        super().__init__(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8")
        self._path = Path(self.baseFilename)
        self._retention = retention

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
        self.delete_expired(time.time())

    def delete_expired(self, now: float) -> None:
        """Delete the rotated files that were last written more than `retention` seconds before `now`."""
        rotated = re.compile(re.escape(self._path.name) + r"\.\d{8}-\d{6}(\.\d+)?")
        for file in list(self._path.parent.iterdir()):
            if rotated.fullmatch(file.name):
                # Another server that logs to the same file may have deleted it.
                with contextlib.suppress(FileNotFoundError):
                    if now - file.stat().st_mtime > self._retention:
                        file.unlink()


def configure_logging(level: str, log_file: Path | None) -> None:
    """Log to standard error and, unless `log_file` is None, to a file; UsageError if it cannot be written."""
    console: logging.Handler
    if sys.stderr.isatty():
        console = RichHandler(
            console=Console(stderr=True), show_path=False, log_time_format="%Y-%m-%d %H:%M:%S", rich_tracebacks=True
        )
        console.setFormatter(logging.Formatter("%(message)s"))
    else:
        console = logging.StreamHandler(sys.stderr)
        console.setFormatter(logging.Formatter(PLAIN_FORMAT))
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        handlers.append(_file_handler(log_file))
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    # The host logs a line for each request.
    logging.getLogger("uvicorn.access").disabled = True
    for noisy in ("uvicorn.error", "httpx", "httpcore", "filelock", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _file_handler(path: Path) -> TimestampedRotatingFileHandler:
    try:
        handler = TimestampedRotatingFileHandler(path.expanduser())
    except OSError as error:
        raise UsageError(
            f"--log-file {str(path)!r} cannot be written: {error.strerror or error}. "
            "Use another path, or --no-log-file."
        ) from error
    handler.setFormatter(logging.Formatter(PLAIN_FORMAT))
    handler.delete_expired(time.time())
    return handler


def terminal() -> Console | None:
    """Return the console of the log if it is a terminal; progress bars must be drawn on the same console."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RichHandler):
            return handler.console
    return None
