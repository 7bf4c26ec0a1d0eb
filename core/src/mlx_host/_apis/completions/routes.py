"""POST /v1/completions: OpenAI's legacy dialect, which goes on with texts as they stand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mlx_host._apis.chat.response import usage
from mlx_host._apis.completions.request import CompletionBody, to_requests
from mlx_host._apis.completions.response import Chunks, Prompt, frame, joined
from mlx_host._host import Done, Exchange, Host
from mlx_host.api import sse
from mlx_host.api.json_io import JsonResponse, ignored_header
from mlx_host.events import Event, Progress

Numbered = AsyncGenerator[tuple[int, list[Event]], None]


async def merged(exchanges: Sequence[Exchange], at_once: int) -> Numbered:
    """What several exchanges say, with the number of each, as it comes; the first error ends them all."""
    arrived: asyncio.Queue[tuple[int, list[Event]] | asyncio.Task[None]] = asyncio.Queue()
    slots = asyncio.Semaphore(at_once)

    async def read(number: int, exchange: Exchange) -> None:
        async with slots, exchange:
            async for events in exchange:
                arrived.put_nowait((number, events))

    tasks = [asyncio.create_task(read(number, exchange)) for number, exchange in enumerate(exchanges)]
    for task in tasks:
        task.add_done_callback(arrived.put_nowait)
    try:
        running = len(tasks)
        while running:
            said = await arrived.get()
            if isinstance(said, asyncio.Task):
                said.result()
                running -= 1
            else:
                yield said
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Completion:
    """The answers to all prompts of one body."""

    def __init__(self, body: CompletionBody, host: Host) -> None:
        requests = to_requests(body)
        model = host.model(requests[0].model)
        streams = body.stream is True
        self._exchanges = [host.ask(request, streams=streams) for request in requests]
        self.frame = frame(requests[0].id, model.name)
        self._shown = body.shown
        firsts = range(0, len(requests) * body.made, body.made)
        self._prompts = [Prompt(first, body.made, body.logprobs is not None) for first in firsts]
        # Not more than run at once: the others wait here, where they take no place in the queue.
        self._batches = merged(self._exchanges, max(1, model.admission.slots))

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage object for all prompts together."""
        counts = [(each.prompt_tokens, each.cached_tokens, each.completion_tokens) for each in self._exchanges]
        return usage(Done(*(sum(count) for count in zip(*counts, strict=True))))

    async def collect(self) -> dict[str, Any]:
        """Add everything up to one answer."""
        pieces: dict[int, list[dict[str, Any]]] = {}
        async with aclosing(self._batches):
            async for number, events in self._batches:
                for piece in self._prompts[number].pieces(events):
                    pieces.setdefault(piece["index"], []).append(piece)
        best = [prompt.choices[number].index for prompt in self._prompts for number in prompt.best(self._shown)]
        choices = [joined(place, pieces[index]) for place, index in enumerate(best)]
        return self.frame | {"choices": choices, "usage": self.usage()}

    async def stream(self, chunks: Chunks) -> sse.Pieces:
        """Write everything as it comes, to [DONE]."""
        async with aclosing(self._batches):
            async for number, events in self._batches:
                yield "".join([chunks.write(piece) for piece in self._prompts[number].pieces(events)])
                last = events[-1]
                yield sse.Comment(f"prefill {last.done}/{last.total}" if isinstance(last, Progress) else "keep-alive")
        yield chunks.usage(self.usage()) + sse.DONE


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoint."""

    @router.post("/v1/completions", response_model=None)
    async def completions(body: CompletionBody, http: Request) -> Response:
        completion = Completion(body, host)
        headers = ignored_header(body.ignored())
        if body.stream:
            include_usage = bool(body.stream_options and body.stream_options.include_usage)
            pieces = completion.stream(Chunks(completion.frame, include_usage))
            return sse.EventStream(pieces, headers, host.settings.keep_alive)
        whole = await sse.while_connected(http.receive, completion.collect())
        return JsonResponse(whole, headers=headers)
