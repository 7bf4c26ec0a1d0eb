"""The body of POST /v1/completions, and its translation to one request for each prompt.

Source: the OpenAI SDK's `types/completion_create_params.py`, and vLLM's `add_special_tokens`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, PlainValidator

from mlx_host.api.common_fields import GenerationBody, StreamOptions
from mlx_host.api.response_format import ResponseFormat
from mlx_host.api.text_inputs import read_inputs
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import CompletionRequest

# OpenAI's default: unlike a chat message, plain text has no natural end.
DEFAULT_MAX_TOKENS = 16
MAX_CHOICES = 128
MAX_PROMPTS = 2048


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

    prompt: Annotated[
        list[str] | list[list[int]],
        PlainValidator(read_inputs, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ]
    suffix: str | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=-1, lt=2**63)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    best_of: int | None = Field(None, ge=1, le=MAX_CHOICES)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    add_special_tokens: bool | None = None
    response_format: ResponseFormat | None = None

    @property
    def n_returned(self) -> int:
        """The number of choices returned for each prompt."""
        return self.n or 1

    @property
    def n_generated(self) -> int:
        """The number of choices generated for each prompt; the best of them are returned."""
        return self.best_of or self.n_returned

    def ignored(self) -> list[str]:
        fields = super().ignored()
        if self.stream_options is not None and not self.stream:
            fields.append("stream_options")
        return sorted(fields)


def _max_tokens(given: int | None) -> int | None:
    if given is None:
        return DEFAULT_MAX_TOKENS
    return None if given == -1 else given


def to_requests(body: CompletionBody) -> Sequence[CompletionRequest]:
    """Translate a body; InvalidRequestError names a field that is not supported."""
    if len(body.prompt) > MAX_PROMPTS:
        raise InvalidRequestError(f"prompt: at most {MAX_PROMPTS} prompts, got {len(body.prompt)}.", param="prompt")
    if body.n_generated < body.n_returned:
        raise InvalidRequestError(
            f"best_of ({body.n_generated}) must not be less than n ({body.n_returned}).", param="best_of"
        )
    if body.stream and body.n_generated > body.n_returned:
        raise InvalidRequestError(
            "best_of cannot be combined with stream, because the best choices are known only at the end. Remove one of "
            "them.",
            param="best_of",
        )
    common: dict[str, Any] = {
        "model": body.model or "",
        "priority": body.queue_priority(),
        "suffix": body.suffix or None,
        "echo": body.echo is True,
        "special_tokens": body.add_special_tokens is not False,
        "sampling": body.sampling(),
        "max_tokens": _max_tokens(body.max_tokens),
        "stop": body.stops(),
        "include_stop": body.include_stop_str_in_output is True,
        "cache_salt": body.cache_salt,
        # The best choices are selected by their log-probabilities.
        "top_logprobs": 0 if body.logprobs is None and body.n_generated > body.n_returned else body.logprobs,
        "n": body.n_generated,
        "output_format": body.output_format(
            body.response_format.output_format() if body.response_format is not None else None, "response_format"
        ),
    }
    prompts: list[Any] = list(body.prompt)
    id = f"cmpl-{uuid.uuid4().hex}"
    return [
        CompletionRequest(id=f"{id}-{number}" if number else id, prompt=prompt, **common)
        for number, prompt in enumerate(prompts)
    ]
