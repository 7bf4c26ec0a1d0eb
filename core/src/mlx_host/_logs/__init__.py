"""Logging: short and coloured on a terminal, complete otherwise, as text or JSON, and optionally to a file."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from rich.console import Console

from mlx_host._logs.files import TimestampedRotatingFileHandler
from mlx_host._logs.formats import LogFormat, TerminalFormatter, TerminalHandler, plain_formatter
from mlx_host.errors import UsageError

__all__ = ["LogFormat", "configure_logging", "terminal"]


def configure_logging(level: str, log_file: Path | None, log_format: LogFormat = "text") -> None:
    """Log to standard error and, unless `log_file` is None, to a file; UsageError if it cannot be written."""
    console: logging.Handler
    if sys.stderr.isatty() and log_format == "text":
        console = TerminalHandler(
            console=Console(stderr=True),
            show_level=False,
            show_path=False,
            omit_repeated_times=False,
            log_time_format="%H:%M:%S",
            rich_tracebacks=True,
        )
        console.setFormatter(TerminalFormatter())
    else:
        console = logging.StreamHandler(sys.stderr)
        console.setFormatter(plain_formatter(log_format))
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        handlers.append(_file_handler(log_file, log_format))
    logging.basicConfig(level=level.upper(), handlers=handlers, force=True)
    # The host logs a line for each request.
    logging.getLogger("uvicorn.access").disabled = True
    for noisy in ("uvicorn.error", "httpx", "httpcore", "filelock", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _file_handler(path: Path, log_format: LogFormat) -> TimestampedRotatingFileHandler:
    try:
        handler = TimestampedRotatingFileHandler(path.expanduser())
    except OSError as error:
        raise UsageError(
            f"--log-file {str(path)!r} cannot be written: {error.strerror or error}. "
            "Use another path, or --no-log-file."
        ) from error
    handler.setFormatter(plain_formatter(log_format))
    handler.delete_expired(time.time())
    return handler


def terminal() -> Console | None:
    """Return the console of the log if it is a terminal; progress bars must be drawn on the same console."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, TerminalHandler):
            return handler.console
    return None
