"""POST /v1/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.completions.examples import REQUEST, RESPONSE, STREAM
from mlx_host._apis.completions.request import CompletionBody, to_requests
from mlx_host._apis.completions.response import ChunkEncoder, CompletionCollector, CompletionReply
from mlx_host.api import Caller, Deadline, Endpoints, Service
from mlx_host.api.http import MergedReply, caller, examples, ignored_header, new_router, respond
from mlx_host.api.text import StreamOptions


class CompletionEndpoints(Endpoints):
    """The endpoint of legacy completions."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def router(self) -> APIRouter:
        router = new_router()

        @router.post("/v1/completions", response_model=None, **examples(REQUEST, RESPONSE, stream=STREAM))
        async def completions(body: CompletionBody, http: Request) -> Response:
            """Create a text completion, without a chat template."""
            reply = self._submit(body, caller(http))
            headers, prompts = ignored_header(body.ignored()), len(body.prompt)
            logprobs = body.logprobs is not None
            if not body.stream:
                # Without best_of, all choices are returned: a plugin may have changed their number.
                best = body.n_returned if body.n_generated > body.n_returned else None
                collector = CompletionCollector(reply, prompts, best, logprobs=logprobs)
                return await respond(http, reply, collector, headers)
            encoder = ChunkEncoder(reply, prompts, body.stream_options or StreamOptions(), logprobs=logprobs)
            return await respond(http, reply, encoder, headers)

        return router

    def _submit(self, body: CompletionBody, caller: Caller) -> CompletionReply:
        deadline = Deadline.of(stream=body.stream is True)
        replies = [self._service.submit(each, caller=caller, deadline=deadline) for each in to_requests(body)]
        model = replies[0].model.name

        def max_running() -> int:
            # No more than can run at once: the others wait here, without occupying the model's queue.
            return max(1, self._service.model(model, caller).concurrency)

        return MergedReply(replies, max_running)
