"""What backends that embed have in common: the inputs of all open requests share forward passes.

Inputs become rows of tokens; the rows of all open requests wait in one pool; a pass takes rows of similar length,
whosever they are; the vectors go back to their requests. An Embedder knows the network, everything else is here.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_host.errors import (
    ContextLengthExceededError,
    EngineError,
    InvalidRequestError,
    RequestError,
    UnsupportedRequestError,
)
from mlx_host.events import EmbeddingBatch, Event, Finished, Started
from mlx_host.requests import EmbeddingRequest

log = logging.getLogger(__name__)

InputType = Literal["query", "document"]

# Texts to tokenize before others get a turn.
ENCODE_AT_ONCE = 256
# Bytes of a float32.
FLOAT = 4
# Of what a pass computes, this share may be padding.
MOST_PADDING = 0.125


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One input, ready for the network: its first `skip` tokens are read but not pooled.

    `image` is whatever the embedder made of one; its share of `tokens` is counted.
    """

    tokens: Sequence[int]
    skip: int = 0
    image: Any = None


class Embedder(ABC):
    """A loaded network that turns rows into vectors.

    `context_length` is the longest row in tokens, `vocabulary` the number of token ids, `dimensions` a vector's
    length; `shorter` are the lengths to which its vectors may be cut, because the model is trained for it.
    """

    context_length: int | None = None
    vocabulary: int
    dimensions: int
    shorter: Container[int] = ()

    @abstractmethod
    def encode(self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None) -> list[Row]:
        """Tokenize, special tokens included; with a `limit`, cut to so many tokens in the tokenizer's way."""

    @abstractmethod
    def embed(self, rows: Sequence[Row]) -> list[bytes | None]:
        """Run one forward pass: a vector for each row, float32 and little-endian, None if it is not finite."""

    def encode_image(self, url: str, text: str, input_type: InputType | None) -> Generator[None, None, Row]:
        """Encode an image and optional text, yielding None while it is decoded; InvalidRequestError if it cannot be used."""
        yield from ()
        raise UnsupportedRequestError("This model takes no images; send text as input alone.", param="image_url")


@dataclass(slots=True, eq=False)
class Job:
    """A request while it is worked on: vectors that came for it since it last looked."""

    arrived: list[tuple[int, bytes]] = field(default_factory=list)
    error: RequestError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """Row number `index` of a job."""

    job: Job
    index: int
    row: Row

    @property
    def length(self) -> int:
        return len(self.row.tokens)


class Pool:
    """The rows that wait for a forward pass, of all jobs, shortest first.

    A pass computes at most `budget` tokens, padding included, or one row. `slack` is in tokens: so much padding is
    always worth it, since a pass more would cost more.
    """

    def __init__(self, budget: int, slack: int) -> None:
        self._budget = budget
        self._slack = slack
        self._rows: list[Waiting] = []
        self._turns: deque[Job] = deque()

    def add(self, job: Job, rows: Sequence[Row]) -> None:
        self._rows.extend(Waiting(job, index, row) for index, row in enumerate(rows))
        # The list is two sorted runs at most, which this sort merges.
        self._rows.sort(key=lambda waiting: waiting.length)
        self._turns.append(job)

    def remove(self, job: Job) -> None:
        if job in self._turns:
            self._turns.remove(job)
            self._rows = [waiting for waiting in self._rows if waiting.job is not job]

    def take(self) -> list[Waiting]:
        """Take the rows of the next pass: the longest of the job whose turn it is, and those nearest in length.

        Jobs take turns, so a short one is not behind all of a long one.
        """
        while self._turns:
            job = self._turns.popleft()
            anchor = next((i for i in range(len(self._rows) - 1, -1, -1) if self._rows[i].job is job), None)
            if anchor is None:
                continue
            self._turns.append(job)
            low, high = self._grow(anchor)
            batch = self._rows[low:high]
            del self._rows[low:high]
            return batch
        return []

    def _grow(self, anchor: int) -> tuple[int, int]:
        """Find the neighbours that fit: first shorter ones, which cost padding of their own, then longer ones."""
        low, high = anchor, anchor + 1
        longest = tokens = self._rows[anchor].length
        while low > 0 and self._fits(high - low + 1, longest, tokens + self._rows[low - 1].length):
            low -= 1
            tokens += self._rows[low].length
        while high < len(self._rows):
            length = self._rows[high].length
            if not self._fits(high - low + 1, length, tokens + length):
                break
            high += 1
            tokens += length
        return low, high

    def _fits(self, rows: int, longest: int, tokens: int) -> bool:
        computed = rows * longest
        return computed <= self._budget and computed - tokens <= max(self._slack, MOST_PADDING * computed)


class Embeddings:
    """Answers embedding requests with an Embedder; `generate` is what a Model needs."""

    def __init__(self, embedder: Embedder, *, batch_tokens: int, slack: int) -> None:
        self.passes = 0
        self._embedder = embedder
        self._pool = Pool(batch_tokens, slack)

    def generate(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        """Answer: Started when all inputs are read, Embedded as vectors come, Finished."""
        cut_to = self._check_dimensions(request.dimensions)
        job = Job()
        try:
            rows: list[Row] = []
            while len(rows) < len(request.inputs):
                if rows:
                    yield None
                rows += yield from self._read(request, len(rows))
            self._pool.add(job, rows)
            yield Started(prompt_tokens=sum(len(row.tokens) for row in rows))
            left = len(rows)
            while left:
                if not job.arrived:
                    seen = self.passes
                    # Requests that arrive in this round join the pool before the pass.
                    yield None
                    if self.passes == seen:
                        self._pass()
                if job.error is not None:
                    raise job.error
                if job.arrived:
                    left -= len(job.arrived)
                    yield _embedded(job, cut_to)
            yield Finished()
        finally:
            self._pool.remove(job)

    def _check_dimensions(self, wanted: int | None) -> int | None:
        embedder = self._embedder
        if wanted is None or wanted == embedder.dimensions:
            return None
        if wanted < embedder.dimensions and wanted in embedder.shorter:
            return wanted
        full = embedder.dimensions
        if wanted > full:
            reason = f"its vectors have {full}"
        elif embedder.shorter:
            reason = f"it is trained for {embedder.shorter} of {full}"
        else:
            reason = f"its vectors have {full} and it is not trained for shorter ones"
        raise InvalidRequestError(f"dimensions: this model cannot give {wanted}: {reason}.", param="dimensions")

    def _read(self, request: EmbeddingRequest, start: int) -> Generator[None, None, list[Row]]:
        """Make rows of the next few inputs; InvalidRequestError names the one that is wrong."""
        embedder = self._embedder
        if request.images:
            text = request.inputs[start]
            if not isinstance(text, str):
                raise InvalidRequestError("image_url goes with texts, not with token ids.", param="input")
            rows = [(yield from embedder.encode_image(request.images[start], text, request.input_type))]
        else:
            inputs = request.inputs[start : start + ENCODE_AT_ONCE]
            encoded = iter(embedder.encode([text for text in inputs if isinstance(text, str)], request.input_type))
            rows = [next(encoded) if isinstance(each, str) else Row(each) for each in inputs]
        return [self._check(row, request, start + offset) for offset, row in enumerate(rows)]

    def _check(self, row: Row, request: EmbeddingRequest, index: int) -> Row:
        given, limit = request.inputs[index], self._embedder.context_length
        param = "input" if len(request.inputs) == 1 else f"input[{index}]"
        if not row.tokens:
            raise InvalidRequestError(f"{param} has no tokens.", param=param)
        if not isinstance(given, str):
            strange = next((token for token in given if not 0 <= token < self._embedder.vocabulary), None)
            if strange is not None:
                last = self._embedder.vocabulary - 1
                raise InvalidRequestError(
                    f"{param}: there is no token {strange}; this model's are 0 to {last}. Token ids of another "
                    "tokenizer mean nothing here: send the text.",
                    param=param,
                )
        if limit is None or len(row.tokens) <= limit or row.image is not None:
            return row
        if not request.truncate:
            raise ContextLengthExceededError(limit, len(row.tokens), param=param)
        return (
            self._embedder.encode([given], request.input_type, limit)[0]
            if isinstance(given, str)
            else Row(given[:limit])
        )

    def _pass(self) -> None:
        """Run a forward pass for whoever has rows in it."""
        batch = self._pool.take()
        self.passes += 1
        try:
            vectors = self._embedder.embed([waiting.row for waiting in batch])
        except Exception as error:
            log.exception("a forward pass of %d rows failed", len(batch))
            for job in {waiting.job for waiting in batch}:
                self._fail(job, EngineError(f"The model failed: {type(error).__name__}: {error}"))
            return
        for waiting, vector in zip(batch, vectors, strict=True):
            if vector is None:
                reason = f"The model's vector for input {waiting.index} is not finite (NaN or infinity)."
                self._fail(waiting.job, EngineError(reason, code="not_finite"))
            else:
                waiting.job.arrived.append((waiting.index, vector))

    def _fail(self, job: Job, error: RequestError) -> None:
        job.error = error
        self._pool.remove(job)


def _embedded(job: Job, cut_to: int | None) -> EmbeddingBatch:
    indices, vectors = zip(*job.arrived, strict=True)
    job.arrived.clear()
    return EmbeddingBatch(
        indices, b"".join(vectors if cut_to is None else [shortened(each, cut_to) for each in vectors])
    )


def shortened(vector: bytes, dimensions: int) -> bytes:
    """Keep the first values of a vector and make it a unit vector again."""
    values = array("f", vector[: FLOAT * dimensions])
    norm = math.hypot(*values)
    return array("f", [value / norm for value in values] if norm else values).tobytes()
