"""Core's request hooks: requests are not changed, and each finished request is logged in one line."""

from __future__ import annotations

import logging

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
    """Log the model, token counts, speed and outcome of a request, but no text of it."""
    first = f"{record.first_token:.2f} s" if record.first_token is not None else "-"
    speed = f"{record.tokens_per_second:.1f} tokens/s" if record.tokens_per_second is not None else "- tokens/s"
    log.info(
        "%s %s %s: %d prompt + %d cached + %d completion tokens, first token %s, %s, %.2f s: %s",
        record.id,
        record.model,
        record.task,
        record.prompt_tokens - record.cached_tokens,
        record.cached_tokens,
        record.completion_tokens,
        first,
        speed,
        record.duration,
        record.outcome,
    )
    if record.warning is not None:
        log.warning("%s %s: %s", record.id, record.model, record.warning)
