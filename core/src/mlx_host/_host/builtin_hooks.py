"""Core's request hooks: requests are not changed, and each finished request is logged."""

from __future__ import annotations

import logging

from mlx_host._host import request_log
from mlx_host.api import ModelStatus, RequestRecord
from mlx_host.hookspecs import hookimpl
from mlx_host.requests import Request

log = logging.getLogger("mlx_host.requests")


@hookimpl(trylast=True)
def prepare_request(request: Request, model: ModelStatus) -> Request:
    """Return the request unchanged, as the innermost implementation."""
    return request


@hookimpl
def request_finished(record: RequestRecord) -> None:
    """Add the record to the log line of its HTTP request, and log its warning."""
    request_log.record(record)
    if record.warning is not None:
        log.warning("%s %s: %s", record.id, record.model, record.warning)
