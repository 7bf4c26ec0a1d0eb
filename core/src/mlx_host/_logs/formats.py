"""The formats of log records: short on a terminal, complete elsewhere, or JSON.

A record may have two attributes, passed as `extra`: `short`, its text for terminals, and `fields`, its members in JSON.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Literal

from rich.console import ConsoleRenderable
from rich.logging import RichHandler
from rich.text import Text

LogFormat = Literal["text", "json"]

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class TerminalFormatter(logging.Formatter):
    """The short text of a record, without time and level, which the handler adds."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return getattr(record, "short", record.message)


class TerminalHandler(RichHandler):
    """Writes the time, the level unless it is INFO, and the message; a full line has about 100 columns."""

    def render_message(self, record: logging.LogRecord, message: str) -> ConsoleRenderable:
        text = super().render_message(record, message)
        if record.levelno == logging.INFO or not isinstance(text, Text):
            return text
        return Text.assemble((record.levelname, f"logging.level.{record.levelname.lower()}"), " ", text)


class JsonFormatter(logging.Formatter):
    """One JSON object per record; the time is in UTC (RFC 3339)."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        message: dict[str, object] = {
            "time": f"{seconds}.{int(record.created * 1000) % 1000:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        message |= fields if fields is not None else {"message": record.getMessage()}
        if record.exc_info:
            message["exception"] = self.formatException(record.exc_info)
        return json.dumps(message, ensure_ascii=False)


def plain_formatter(log_format: LogFormat) -> logging.Formatter:
    """Return the formatter for files and for standard error that is not a terminal."""
    return JsonFormatter() if log_format == "json" else logging.Formatter(TEXT_FORMAT)
