"""Builds OpenAI's response from the vectors of an embedding request."""

from __future__ import annotations

import asyncio
import base64
import math
from array import array
from collections import deque
from collections.abc import Callable, Sequence

from fastapi.responses import Response

from mlx_host.api import Reply
from mlx_host.api.http import BackendContractError, Collector, dumps, utf8
from mlx_host.events import EmbeddingBatch, Event
from mlx_host.requests import EmbeddingRequest

# Encoding more vectors than this at once would block the event loop noticeably.
MAX_VECTORS_PER_TURN = 64

VectorEncoder = Callable[[bytes], bytes]


def base64_json(vector: bytes) -> bytes:
    """Encode little-endian float32 values as a JSON string of base64, the default of OpenAI's SDKs."""
    return b'"%b"' % base64.b64encode(vector)


def floats_json(vector: bytes) -> bytes:
    """Encode float32 values as a JSON array; nine digits distinguish all float32 values."""
    values = array("f", vector)
    return ("[" + ",".join(["%.9g"] * len(values)) % tuple(values) + "]").encode()


class EmbeddingCollector(Collector[Event]):
    """Collects the vectors in the order of the inputs.

    Vectors are encoded as they arrive, at most MAX_VECTORS_PER_TURN per batch of events; the rest are encoded at the
    end, yielding to other requests. A value that is not finite, which JSON cannot represent, raises
    BackendContractError. That there is one vector for each input is checked in the model's process.
    """

    def __init__(self, reply: Reply[Event], encode: VectorEncoder) -> None:
        assert isinstance(reply.request, EmbeddingRequest)
        self._reply = reply
        self._encode = encode
        self._encoded = [b""] * len(reply.request.inputs)
        self._pending: deque[tuple[int, bytes]] = deque()

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, EmbeddingBatch):
                size = len(event.vectors) // len(event.indices)
                for position, index in enumerate(event.indices):
                    self._pending.append((index, event.vectors[position * size : (position + 1) * size]))
        self._encode_some()

    def _encode_some(self) -> None:
        for _ in range(min(len(self._pending), MAX_VECTORS_PER_TURN)):
            index, vector = self._pending.popleft()
            if not math.isfinite(sum(array("f", vector))):
                fault = f"returned vector {index} with a value that is not finite"
                raise BackendContractError(self._reply.model, fault)
            self._encoded[index] = b'{"object":"embedding","index":%d,"embedding":%b}' % (index, self._encode(vector))

    async def response(self) -> Response:
        while self._pending:
            await asyncio.sleep(0)
            self._encode_some()
        tokens = self._reply.prompt_tokens
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        rest = utf8(dumps({"model": self._reply.model.name, "usage": usage}))
        content = b'{"object":"list","data":[%b],%b' % (b",".join(self._encoded), rest[1:])
        return Response(content, media_type="application/json")
