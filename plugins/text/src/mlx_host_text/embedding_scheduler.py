"""Schedules embedding requests: the inputs of all open requests share forward passes.

Inputs become token sequences that wait in one queue; a pass takes inputs of similar length
from any requests. The Embedder runs the network, everything else is here.
"""

from __future__ import annotations

import logging
import math
from array import array
from collections import deque
from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mlx_host.errors import ContextLengthExceededError, EngineError, InvalidRequestError, RequestError
from mlx_host.events import EmbeddingBatch, Event, Finished, Started
from mlx_host.requests import EmbeddingRequest

from mlx_host_text.background import BackgroundThreads

log = logging.getLogger(__name__)

InputType = Literal["query", "document"]

# The number of texts that are tokenized at a time.
TEXTS_PER_TURN = 256
FLOAT32_BYTES = 4
# Maximum fraction of a pass that may be padding.
MAX_PADDING = 0.125


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingInput:
    """One input, ready for the network; pooling skips its first `skip` tokens.

    `image` is the embedder's representation of an image; `tokens` includes the image's tokens.
    """

    tokens: Sequence[int]
    skip: int = 0
    image: Any = None


class Embedder(Protocol):
    """A loaded network that turns inputs into vectors.

    `context_length` is the maximum length of an input in tokens, `vocabulary_size` the number of token ids,
    `dimensions` the length of a vector. `matryoshka_dimensions` are the lengths to which vectors may be shortened,
    those that the model was trained for.
    """

    context_length: int | None
    vocabulary_size: int
    dimensions: int
    matryoshka_dimensions: Container[int]

    def encode(
        self, texts: Sequence[str], input_type: InputType | None, limit: int | None = None
    ) -> list[EmbeddingInput]:
        """Tokenize with special tokens; truncate to `limit` tokens, if given. Called on threads without MLX."""

    def encode_images(
        self, urls: Sequence[str], texts: Sequence[str], input_type: InputType | None
    ) -> Generator[None, None, list[EmbeddingInput]]:
        """Load and encode images, each with a text that may be empty; yields while it waits and between images.

        InvalidRequestError for unusable images, UnsupportedRequestError for models without image support.
        """

    def embed(self, inputs: Sequence[EmbeddingInput]) -> list[bytes | None]:
        """Run one forward pass: a little-endian float32 vector for each input, None if it is not finite."""


@dataclass(slots=True, eq=False)
class EmbeddingTask:
    """A running request: the vectors that arrived since its last turn, by the index of their input."""

    arrived: list[tuple[int, bytes]] = field(default_factory=list)
    error: RequestError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PendingInput:
    """Input number `index` of a task."""

    task: EmbeddingTask
    index: int
    input: EmbeddingInput

    @property
    def length(self) -> int:
        return len(self.input.tokens)


class LengthBucketQueue:
    """The inputs of all tasks that wait for a forward pass, shortest first.

    A pass computes at most `budget` tokens, padding included, or one input. `max_padding_tokens` of padding are always
    allowed, because they cost less than another pass.
    """

    def __init__(self, budget: int, max_padding_tokens: int) -> None:
        self._budget = budget
        self._max_padding_tokens = max_padding_tokens
        self._pending: list[PendingInput] = []
        self._turns: deque[EmbeddingTask] = deque()

    def add(self, task: EmbeddingTask, inputs: Sequence[EmbeddingInput]) -> None:
        self._pending.extend(PendingInput(task, index, each) for index, each in enumerate(inputs))
        # The list consists of at most two sorted runs, which this sort merges.
        self._pending.sort(key=lambda pending: pending.length)
        self._turns.append(task)

    def remove(self, task: EmbeddingTask) -> None:
        if task in self._turns:
            self._turns.remove(task)
            self._pending = [pending for pending in self._pending if pending.task is not task]

    def take(self) -> list[PendingInput]:
        """Take the inputs of the next pass: the longest of the task whose turn it is, and those closest in length.

        Tasks take turns, so that a short one does not wait for all inputs of a long one.
        """
        while self._turns:
            task = self._turns.popleft()
            anchor = next((i for i in range(len(self._pending) - 1, -1, -1) if self._pending[i].task is task), None)
            if anchor is None:
                continue
            self._turns.append(task)
            low, high = self._grow(anchor)
            batch = self._pending[low:high]
            del self._pending[low:high]
            return batch
        return []

    def _grow(self, anchor: int) -> tuple[int, int]:
        """The range of neighbours that fit: first shorter ones, which need padding themselves, then longer ones."""
        low, high = anchor, anchor + 1
        longest = tokens = self._pending[anchor].length
        while low > 0 and self._fits(high - low + 1, longest, tokens + self._pending[low - 1].length):
            low -= 1
            tokens += self._pending[low].length
        while high < len(self._pending):
            length = self._pending[high].length
            if not self._fits(high - low + 1, length, tokens + length):
                break
            high += 1
            tokens += length
        return low, high

    def _fits(self, inputs: int, longest: int, tokens: int) -> bool:
        computed = inputs * longest
        padding = computed - tokens
        return computed <= self._budget and padding <= max(self._max_padding_tokens, MAX_PADDING * computed)


class EmbeddingScheduler:
    """Runs embedding requests with an Embedder; `passes` counts the forward passes."""

    def __init__(self, embedder: Embedder, *, batch_tokens: int, max_padding_tokens: int) -> None:
        self.passes = 0
        self._embedder = embedder
        self._threads = BackgroundThreads("embeddings")
        self._queue = LengthBucketQueue(batch_tokens, max_padding_tokens)

    def generate(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        """Yield Started when all inputs are tokenized, EmbeddingBatch as vectors arrive, and Finished."""
        dimensions = self._check_dimensions(request.dimensions)
        task = EmbeddingTask()
        try:
            inputs = yield from self._encode(request)
            self._queue.add(task, inputs)
            yield Started(prompt_tokens=sum(len(each.tokens) for each in inputs))
            remaining = len(inputs)
            while remaining:
                if not task.arrived:
                    passes = self.passes
                    # Requests that arrive in this round join the queue before the pass.
                    yield None
                    if self.passes == passes:
                        self._pass()
                if task.error is not None:
                    raise task.error
                if task.arrived:
                    remaining -= len(task.arrived)
                    yield _embedded(task, dimensions)
            yield Finished()
        finally:
            self._queue.remove(task)

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

    def _check_dimensions(self, wanted: int | None) -> int | None:
        embedder = self._embedder
        full = embedder.dimensions
        if wanted is None or wanted == full:
            return None
        if wanted < full and wanted in embedder.matryoshka_dimensions:
            return wanted
        if wanted > full:
            reason = f"its vectors have {full}"
        elif embedder.matryoshka_dimensions:
            reason = f"it is trained for {embedder.matryoshka_dimensions} of {full}"
        else:
            reason = f"its vectors have {full} and it is not trained for shorter ones"
        raise InvalidRequestError(f"dimensions: this model does not support {wanted}: {reason}.", param="dimensions")

    def _encode(self, request: EmbeddingRequest) -> Generator[None, None, list[EmbeddingInput]]:
        """Tokenize all inputs, some in each turn; InvalidRequestError names the one that is invalid."""
        inputs: list[EmbeddingInput] = []
        if request.images:
            texts = [text for text in request.inputs if isinstance(text, str)]
            if len(texts) < len(request.inputs):
                raise InvalidRequestError(
                    "image_url can be combined with text only, not with token ids.", param="input"
                )
            inputs = yield from self._embedder.encode_images(request.images, texts, request.input_type)
            return [self._check(each, request, index) for index, each in enumerate(inputs)]
        while len(inputs) < len(request.inputs):
            if inputs:
                yield None
            inputs += yield from self._threads.run(self._encode_some, request, len(inputs))
        return inputs

    def _encode_some(self, request: EmbeddingRequest, start: int) -> list[EmbeddingInput]:
        given = request.inputs[start : start + TEXTS_PER_TURN]
        encoded = iter(self._embedder.encode([text for text in given if isinstance(text, str)], request.input_type))
        inputs = [next(encoded) if isinstance(each, str) else EmbeddingInput(each) for each in given]
        return [self._check(each, request, start + offset) for offset, each in enumerate(inputs)]

    def _check(self, encoded: EmbeddingInput, request: EmbeddingRequest, index: int) -> EmbeddingInput:
        given, limit = request.inputs[index], self._embedder.context_length
        param = "input" if len(request.inputs) == 1 else f"input[{index}]"
        if not encoded.tokens:
            raise InvalidRequestError(f"{param} has no tokens.", param=param)
        if not isinstance(given, str):
            invalid = next((token for token in given if not 0 <= token < self._embedder.vocabulary_size), None)
            if invalid is not None:
                raise InvalidRequestError(
                    f"{param}: token id {invalid} is out of range (0 to {self._embedder.vocabulary_size - 1}). If it "
                    "comes from another tokenizer, send text instead.",
                    param=param,
                )
        if limit is None or len(encoded.tokens) <= limit or encoded.image is not None:
            return encoded
        if not request.truncate:
            raise ContextLengthExceededError(limit, len(encoded.tokens), param=param)
        if isinstance(given, str):
            return self._embedder.encode([given], request.input_type, limit)[0]
        return EmbeddingInput(given[:limit])

    def _pass(self) -> None:
        """Run one forward pass for all tasks that have inputs in it."""
        batch = self._queue.take()
        self.passes += 1
        try:
            vectors = self._embedder.embed([pending.input for pending in batch])
        except Exception as error:
            log.exception("a forward pass of %d inputs failed", len(batch))
            for task in {pending.task for pending in batch}:
                self._fail(task, EngineError(f"The model failed: {type(error).__name__}: {error}"))
            return
        for pending, vector in zip(batch, vectors, strict=True):
            if vector is None:
                reason = f"The model's vector for input {pending.index} is not finite (NaN or infinity)."
                self._fail(pending.task, EngineError(reason, code="not_finite"))
            else:
                pending.task.arrived.append((pending.index, vector))

    def _fail(self, task: EmbeddingTask, error: RequestError) -> None:
        task.error = error
        self._queue.remove(task)


def _embedded(task: EmbeddingTask, dimensions: int | None) -> EmbeddingBatch:
    indices, vectors = zip(*task.arrived, strict=True)
    task.arrived.clear()
    if dimensions is not None:
        vectors = tuple(shorten(each, dimensions) for each in vectors)
    return EmbeddingBatch(indices, b"".join(vectors))


def shorten(vector: bytes, dimensions: int) -> bytes:
    """Keep the first values of a float32 vector and scale it to length 1 again."""
    values = array("f", vector[: FLOAT32_BYTES * dimensions])
    norm = math.hypot(*values)
    return array("f", [value / norm for value in values] if norm else values).tobytes()
