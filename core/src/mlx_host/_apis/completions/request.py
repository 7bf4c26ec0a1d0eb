"""The body of POST /v1/completions, and the requests that it becomes: one for each prompt.

Source: the OpenAI SDK's `types/completion_create_params.py`, and vLLM's `add_special_tokens`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, PlainValidator

from mlx_host._apis.chat.schema import StreamOptions
from mlx_host._apis.embeddings.routes import read_inputs
from mlx_host.api.common_fields import GenerationBody
from mlx_host.api.response_format import ResponseFormat
from mlx_host.errors import InvalidRequest
from mlx_host.requests import CompletionRequest

# OpenAI's default, for a text has no end of its own.
MAX_TOKENS = 16
MOST_CHOICES = 128
MOST_PROMPTS = 2048


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

    prompt: Annotated[
        list[str] | list[list[int]],
        PlainValidator(read_inputs, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ]
    suffix: str | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=0, lt=2**63)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    best_of: int | None = Field(None, ge=1, le=MOST_CHOICES)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    add_special_tokens: bool | None = None
    response_format: ResponseFormat | None = None

    @property
    def shown(self) -> int:
        """How many choices of each prompt are shown."""
        return self.n or 1

    @property
    def made(self) -> int:
        """How many choices of each prompt are made, for the best of them to be shown."""
        return self.best_of or self.shown

    def ignored(self) -> list[str]:
        """Name the fields that were given, not null, and change nothing here."""
        fields = self.given_extra()
        if self.stream_options is not None and not self.stream:
            fields.append("stream_options")
        return sorted(fields)


def to_requests(body: CompletionBody) -> Sequence[CompletionRequest]:
    """Translate a body; InvalidRequest names what cannot be honoured."""
    if len(body.prompt) > MOST_PROMPTS:
        raise InvalidRequest(f"prompt: at most {MOST_PROMPTS} of them, got {len(body.prompt)}.", param="prompt")
    if body.made < body.shown:
        raise InvalidRequest(f"best_of is {body.made}, which is less than n, {body.shown}.", param="best_of")
    if body.stream and body.made > body.shown:
        raise InvalidRequest(
            "best_of cannot be streamed: which answer is best shows at the end. Leave out stream or best_of.",
            param="best_of",
        )
    common: dict[str, Any] = {
        "model": body.model or "",
        "priority": body.priority(),
        "suffix": body.suffix or None,
        "echo": body.echo is True,
        "special_tokens": body.add_special_tokens is not False,
        "sampling": body.sampling(),
        "max_tokens": MAX_TOKENS if body.max_tokens is None else body.max_tokens,
        "stop": body.stops(),
        # Which choice is best is told by its log-probabilities.
        "top_logprobs": 0 if body.logprobs is None and body.made > body.shown else body.logprobs,
        "n": body.made,
        "form": body.form(body.response_format.form() if body.response_format is not None else None, "response_format"),
    }
    prompts: list[Any] = list(body.prompt)
    id = f"cmpl-{uuid.uuid4().hex}"
    return [
        CompletionRequest(id=f"{id}-{number}" if number else id, prompt=prompt, **common)
        for number, prompt in enumerate(prompts)
    ]
