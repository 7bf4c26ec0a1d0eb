"""Turns the vectors of an embedding request into OpenAI's response."""

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
from mlx_host.events import EmbeddingBatch, Event, Finished
from mlx_host.requests import EmbeddingRequest

FLOAT32 = 4
# Encoding more vectors than this without a break would delay other requests.
MAX_VECTORS_PER_TURN = 64

VectorEncoder = Callable[[bytes], bytes]


def base64_json(vector: bytes) -> bytes:
    """Encode little-endian float32 values as a JSON string, which the OpenAI SDK asks for."""
    return b'"%b"' % base64.b64encode(vector)


def floats_json(vector: bytes) -> bytes:
    """Encode float32 values as a JSON array; nine digits distinguish all float32 values."""
    values = array("f", vector)
    return ("[" + ",".join(["%.9g"] * len(values)) % tuple(values) + "]").encode()


class EmbeddingCollector(Collector[Event]):
    """Collects the vectors in the order of the inputs.

    Vectors are encoded as they arrive, at most MAX_VECTORS_PER_TURN per batch of events; the rest are encoded at the
    end, with other requests in between. Events that break the backend contract raise BackendContractError: a vector
    that is missing, given twice, of another size or not finite, and an index that is out of range.
    """

    def __init__(self, reply: Reply[Event], encode: VectorEncoder) -> None:
        assert isinstance(reply.request, EmbeddingRequest)
        self._reply = reply
        self._encode = encode
        self._is_received = bytearray(len(reply.request.inputs))
        self._encoded = [b""] * len(self._is_received)
        self._pending: deque[tuple[int, bytes]] = deque()
        self._vector_bytes = 0

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case EmbeddingBatch():
                    self._receive(event)
                case Finished() if missing := self._is_received.count(0):
                    total = len(self._is_received)
                    raise self._fault(f"returned {total - missing} of {total} vectors")
        self._encode_some()

    def _receive(self, event: EmbeddingBatch) -> None:
        """Check an event, and split it into vectors."""
        count, size = len(event.indices), len(event.vectors)
        vector_bytes = size // count if count else 0
        if not vector_bytes or size != vector_bytes * count or vector_bytes % FLOAT32:
            raise self._fault(f"returned {size} bytes for {count} float32 vectors")
        if vector_bytes != (self._vector_bytes or vector_bytes):
            sizes = f"{self._vector_bytes // FLOAT32} and {vector_bytes // FLOAT32}"
            raise self._fault(f"returned vectors of different sizes: {sizes}")
        self._vector_bytes = vector_bytes
        for position, index in enumerate(event.indices):
            if not 0 <= index < len(self._is_received):
                raise self._fault(f"returned vector {index} for {len(self._is_received)} inputs, numbered from 0")
            if self._is_received[index]:
                raise self._fault(f"returned vector {index} twice")
            self._is_received[index] = 1
            self._pending.append((index, event.vectors[position * vector_bytes : (position + 1) * vector_bytes]))

    def _encode_some(self) -> None:
        for _ in range(min(len(self._pending), MAX_VECTORS_PER_TURN)):
            index, vector = self._pending.popleft()
            if not math.isfinite(sum(array("f", vector))):
                raise self._fault(f"returned vector {index} with a value that is not finite")
            self._encoded[index] = b'{"object":"embedding","index":%d,"embedding":%b}' % (index, self._encode(vector))

    def _fault(self, fault: str) -> BackendContractError:
        return BackendContractError(self._reply.model, fault)

    async def response(self) -> Response:
        while self._pending:
            await asyncio.sleep(0)
            self._encode_some()
        tokens = self._reply.prompt_tokens
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        rest = utf8(dumps({"model": self._reply.model.name, "usage": usage}))
        content = b'{"object":"list","data":[%b],%b' % (b",".join(self._encoded), rest[1:])
        return Response(content, media_type="application/json")
