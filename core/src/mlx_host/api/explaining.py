"""Responds with an explanation of a chat request, for the API that the request was written for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from mlx_host.api.json_io import JsonResponse, ignored_header
from mlx_host.api.replies import RetryingReply
from mlx_host.api.responding import Collector, respond
from mlx_host.api.routing import caller
from mlx_host.api.service import ModelStatus, Reply, Service
from mlx_host.errors import RequestError
from mlx_host.events import Event, Explained
from mlx_host.requests import ChatRequest, ExplainRequest

EXPLANATION = {
    "object": "explanation",
    "model": "demo:smollm2",
    "messages": [{"role": "user", "content": "Hi."}],
    "tools": [],
    "template_kwargs": {},
    "prompt": "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n",
    "generation_prompt": "<|im_start|>assistant\n",
    "usage": {"prompt_tokens": 31, "cached_tokens": 0},
    "context_length": 8192,
    "adaptations": [],
    "dropped": [{"field": "reasoning_effort", "reason": "It has no effect with this model or request."}],
    "parsers": {"reasoning": "qwen3", "tools": "qwen3"},
    "grammar": None,
}
"""An example of the response, for the OpenAPI document."""


async def explain(
    service: Service,
    http: Request,
    request: ChatRequest,
    ignored: Callable[[ChatRequest, ModelStatus], list[str]],
    translate: Callable[[RequestError], None] = lambda error: None,
) -> Response:
    """Respond with an explanation of `request`.

    `ignored` returns the fields of its body that have no effect. `translate` changes errors of the model, which name
    the fields of a chat request, to those of the body.
    """
    reply: Reply[Event] = RetryingReply(
        service.submit(ExplainRequest(id=request.id, model=request.model, prompt=request), caller=caller(http)),
        translate,
    )
    prepared = reply.request
    assert isinstance(prepared, ExplainRequest)
    fields = ignored(prepared.prompt, reply.model)
    collector = _ExplanationCollector(service, http, reply, prepared.prompt, fields)
    return await respond(http, reply, collector, ignored_header(fields))


class _ExplanationCollector(Collector[Event]):
    def __init__(
        self, service: Service, http: Request, reply: Reply[Event], request: ChatRequest, ignored: Sequence[str]
    ) -> None:
        self._service = service
        self._http = http
        self._model = reply.model.name
        self._request = request
        self._dropped = dict.fromkeys(ignored, "It has no effect with this model or request.")
        self._explained: Explained | None = None

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Explained):
                self._explained = event

    async def response(self) -> Response:
        explained = self._explained
        assert explained is not None
        # The model may have been loading when the request arrived.
        model = self._service.model(self._model, caller(self._http))
        dropped = self._dropped | dict(explained.dropped)
        content: dict[str, Any] = {
            "object": "explanation",
            "model": self._model,
            "messages": explained.messages,
            "tools": explained.tools,
            "template_kwargs": self._request.template_kwargs,
            "prompt": explained.prompt,
            "generation_prompt": explained.generation_prompt,
            "usage": {"prompt_tokens": explained.prompt_tokens, "cached_tokens": explained.cached_tokens},
            "context_length": None if model.capabilities is None else model.capabilities.context_length,
            "adaptations": explained.adaptations,
            "dropped": [{"field": name, "reason": reason} for name, reason in sorted(dropped.items())],
            "parsers": {part: model.parsers.get(part) for part in ("reasoning", "tools")},
            "grammar": explained.grammar,
        }
        return JsonResponse(content)
