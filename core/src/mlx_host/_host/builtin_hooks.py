"""Core's own request hooks: a request goes to the model as it came, and each leaves one line in the log."""

from __future__ import annotations

import logging

from mlx_host._host.reply import RequestRecord
from mlx_host._host.served_model import ServedModel
from mlx_host.hookspecs import hookimpl
from mlx_host.requests import Request

log = logging.getLogger("mlx_host.requests")


@hookimpl(trylast=True)
def prepare_request(request: Request, model: ServedModel) -> Request:
    """Leave the request as it is; wrappers see it from here."""
    return request


@hookimpl
def request_finished(record: RequestRecord) -> None:
    """Log one line: which model, how many tokens, how fast, and how it ended. No text of the request."""
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
