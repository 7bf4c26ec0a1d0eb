"""The log: one line for each HTTP request when it ends, with the statistics of the model's replies to it.

On a terminal the line is short; elsewhere it has every field. Neither has any text of a prompt or an output.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from mlx_host.api import RequestRecord
from mlx_host.errors import RequestError

log = logging.getLogger("mlx_host.requests")

# The status that nginx logs for a client that closes the connection before the response has started.
CLIENT_CLOSED_REQUEST = 499
# The columns of a terminal line after its time; only an error's message may exceed them.
MAX_COLUMNS = 91
MIN_MODEL_COLUMNS = 12
MAX_PATH = 200
MAX_MESSAGE = 300
# A shorter time in the queue is not shown on a terminal, in seconds.
MIN_QUEUE_SHOWN = 0.01
SHORT_ID = 6


@dataclass
class RequestLog:
    """The log entry of one HTTP request, or of work that continues in the background after one.

    `id` is the value of the header `x-request-id`. `status` is None until the response has started. The replies of a
    WebSocket are logged one by one (`logs_each_reply`), because its connection may last for an hour.
    """

    id: str
    method: str
    path: str
    model: str | None = None
    status: int | None = None
    complete: bool = False
    in_background: bool = False
    logs_each_reply: bool = False
    error: RequestError | None = None
    records: list[RequestRecord] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)

    def add(self, record: RequestRecord) -> None:
        """Add a model's reply to the request; one in the background is logged at once, in a line without a status."""
        if self.in_background:
            entry = RequestLog(self.id, "", f"({record.task} in background)", complete=True, records=[record])
        elif self.logs_each_reply:
            entry = RequestLog(self.id, self.method, self.path, complete=True, records=[record])
        else:
            self.records.append(record)
            return
        entry._write(record.duration)

    def finish(self) -> None:
        """Log the request."""
        if self.status is None:
            self.status = CLIENT_CLOSED_REQUEST
        self._write(time.monotonic() - self.started_at)

    def _write(self, duration: float) -> None:
        fields = self._fields(duration)
        is_failure = self.status is not None and self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        log.log(
            logging.WARNING if is_failure else logging.INFO,
            "%s",
            _full(fields),
            extra={"short": _short(fields), "fields": fields},
        )

    def _fields(self, duration: float) -> dict[str, Any]:
        """Return what is known about the request, in the order of the line."""
        records = self.records
        model = records[-1].model if records else self.model
        fields: dict[str, Any] = {
            "status": self.status,
            "method": self.method or None,
            "path": _printable(self.path, MAX_PATH),
            "model": _printable(model, MAX_PATH) if model is not None else None,
        }
        if records:
            last = records[-1]
            fields |= {
                "task": last.task,
                "outcome": last.outcome,
                "prompt_tokens": sum(record.prompt_tokens for record in records),
                "cached_tokens": sum(record.cached_tokens for record in records),
                "completion_tokens": sum(record.completion_tokens for record in records),
                "tokens_per_second": _rounded(last.tokens_per_second) if len(records) == 1 else None,
                "audio_seconds": _rounded(last.audio_seconds),
                "real_time_factor": _rounded(last.real_time_factor),
                "queue_seconds": _rounded(max(record.queued for record in records)),
                "ttft_seconds": _rounded(last.time_to_first_token_after_queue) if len(records) == 1 else None,
            }
        fields |= {"duration_seconds": _rounded(duration), "request_id": self.id}
        if records:
            fields["response_id"] = " ".join(record.id for record in records)
        if (error := self._error()) is not None:
            fields |= {key: _printable(value, MAX_MESSAGE) for key, value in error.items() if value is not None}
        return {key: value for key, value in fields.items() if value is not None}

    def _error(self) -> dict[str, str | None] | None:
        if self.error is not None:
            code = self.error.code or self.error.type
            return {"error": code, "error_param": self.error.param, "error_message": self.error.message}
        failed = next((record for record in reversed(self.records) if record.error is not None), None)
        if failed is not None and not (self.complete and failed is not self.records[-1]):
            return {"error": failed.outcome, "error_message": failed.error}
        if not self.complete:
            return {"error": "client_disconnect", "error_message": "The client closed the connection."}
        return None


_current: ContextVar[RequestLog | None] = ContextVar("request log", default=None)


def current() -> RequestLog | None:
    """Return the entry of the HTTP request that is handled in this context."""
    return _current.get()


@contextmanager
def logged(entry: RequestLog) -> Iterator[None]:
    """Make `entry` the current one, and log it at the end."""
    token = _current.set(entry)
    try:
        yield
    finally:
        _current.reset(token)
        entry.finish()


def enter_background() -> None:
    """Log the replies of this context one by one: it outlives the HTTP request that it was copied from."""
    entry = _current.get()
    if entry is not None:
        _current.set(RequestLog(entry.id, entry.method, entry.path, in_background=True))


def record(finished: RequestRecord) -> None:
    """Add a finished reply to the entry of its HTTP request."""
    entry = _current.get() or RequestLog(finished.id, "", "", in_background=True)
    entry.add(finished)


def _rounded(value: float | None) -> float | None:
    return round(value, 3) if value is not None else None


def _printable(text: str, limit: int) -> str:
    """Escape what could end the line or control the terminal, and shorten long text."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _full(fields: dict[str, Any]) -> str:
    """Format every field: status, method and path, the others as key=value."""
    words = [str(fields[key]) for key in ("status", "method", "path") if key in fields]
    words += [f"{key}={_quoted(value)}" for key, value in fields.items() if key not in ("status", "method", "path")]
    return " ".join(words)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & {" ", '"', "="} else text


def _short(fields: dict[str, Any]) -> str:
    """Format a line for terminals, in MAX_COLUMNS if that is possible with a shortened model name."""
    head = " ".join(str(fields[key]) for key in ("status", "method", "path") if key in fields)
    rest = " ".join(_statistics(fields))
    short_id = fields["request_id"].removeprefix("req_")[:SHORT_ID]
    model = fields.get("model", "")
    room = MAX_COLUMNS - len(f"{head}  {rest} {short_id}")
    if room < MIN_MODEL_COLUMNS and "tok/s" in rest:
        # The unit is repeated with the speed.
        rest, room = rest.replace(" tok ", " ", 1), room + len(" tok")
    model = _shortened(model, max(room, MIN_MODEL_COLUMNS))
    return " ".join(word for word in (head, model, rest, short_id, fields.get("error_message", "")) if word)


def _shortened(name: str, columns: int) -> str:
    """Shorten a name in its middle: the end of a model's name is its variant."""
    start = columns // 2
    return name if len(name) <= columns else f"{name[:start]}…{name[len(name) - (columns - start - 1) :]}"


def _statistics(fields: dict[str, Any]) -> Iterator[str]:
    prompt, cached = fields.get("prompt_tokens", 0), fields.get("cached_tokens", 0)
    completion = fields.get("completion_tokens", 0)
    if prompt or completion:
        tokens = f"{_count(prompt - cached)}+{_count(cached)}" if cached else _count(prompt)
        yield f"{tokens}→{_count(completion)} tok" if completion else f"{tokens} tok"
    if (factor := fields.get("real_time_factor")) is not None:
        yield f"rtf {factor:.2f}"
    elif (speed := fields.get("tokens_per_second")) is not None:
        yield f"{speed:.1f} tok/s" if speed < 100 else f"{speed:.0f} tok/s"
    if fields.get("queue_seconds", 0) >= MIN_QUEUE_SHOWN:
        yield f"queue {_seconds(fields['queue_seconds'])}"
    if (first := fields.get("ttft_seconds")) is not None:
        yield f"ttft {_seconds(first)}"
    yield _seconds(fields["duration_seconds"])


def _count(tokens: int) -> str:
    return str(tokens) if tokens < 10_000 else f"{tokens / 1000:.1f}k"


def _seconds(value: float) -> str:
    return f"{value:.2f}s" if value < 10 else f"{value:.1f}s"
