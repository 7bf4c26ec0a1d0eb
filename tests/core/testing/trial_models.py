"""Valid and broken models under the model contract, run by test_model_contract.py in a separate pytest."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mlx_host.backend import Backend, Model, Options
from mlx_host.errors import ContextLengthExceededError, EngineError, InvalidRequestError
from mlx_host.events import ChoiceFinished, EmbeddingBatch, Event, Finished, Progress, Started, TextDelta
from mlx_host.requests import ChatRequest, EmbeddingRequest, Request
from mlx_host.testing import ModelContract, chat
from pydantic import Field


def backend(model: type[Model], options: type[Options] = Options, **more: Any) -> Backend[Any]:
    return Backend("trial", lambda load: model(), options, needs_model=False, **more)


class ValidModel(Model):
    """Spells the last message in each choice; uses every feature of the contract."""

    concurrency = 4
    context_length: int | None = 20

    def __init__(self) -> None:
        self.slots = list(range(self.concurrency))

    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        content = self.read(request)
        with self.slot():
            yield None
            yield Started(prompt_tokens=len(content))
            yield Progress("prefill", 1, 1)
            yield from self.spell(content, request.n)
            yield Finished(reason="stop", completion_tokens=len(content) * request.n)

    def read(self, request: ChatRequest) -> str:
        content = request.messages[-1].get("content")
        if not isinstance(content, str):
            raise InvalidRequestError("messages: content must be text", param="messages")
        if self.context_length is not None and len(content) > self.context_length:
            raise ContextLengthExceededError(self.context_length, len(content))
        return content

    @contextmanager
    def slot(self) -> Iterator[None]:
        slot = self.slots.pop()
        try:
            yield
        finally:
            self.slots.append(slot)

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        for choice in range(n):
            for letter in content:
                yield TextDelta(letter, choice=choice)
                yield None
            yield ChoiceFinished("stop", choice)


class TrialContract(ModelContract):
    requests: ClassVar[Sequence[Request]] = (chat("one"), chat("two", n=2), chat("three"))


class TestValid(TrialContract):
    backend = backend(ValidModel)


class SingleSlot(ValidModel):
    concurrency = 1
    context_length = None


class TestSingleSlot(TrialContract):
    backend = backend(SingleSlot)


class WithoutFinished(ValidModel):
    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        for event in super().generate(request):
            if not isinstance(event, Finished):
                yield event


class TestWithoutFinished(TrialContract):
    backend = backend(WithoutFinished)


class Endless(ValidModel):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        while True:
            yield None


class TestEndless(TrialContract):
    backend = backend(Endless)


class TextAfterFinished(ValidModel):
    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        yield from super().generate(request)
        yield TextDelta("more")


class TestTextAfterFinished(TrialContract):
    backend = backend(TextAfterFinished)


class StartsLate(ValidModel):
    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        yield Progress("prefill", 0, 1)
        yield from super().generate(request)


class TestStartsLate(TrialContract):
    backend = backend(StartsLate)


class StartsTwice(ValidModel):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield Started(prompt_tokens=len(content))
        yield from super().spell(content, n)


class TestStartsTwice(TrialContract):
    backend = backend(StartsTwice)


class NumbersChoicesFromOne(ValidModel):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        for event in super().spell(content, n):
            yield replace(event, choice=event.choice + 1) if isinstance(event, (TextDelta, ChoiceFinished)) else event


class TestNumbersChoicesFromOne(TrialContract):
    backend = backend(NumbersChoicesFromOne)


class Embeds(Model):
    """Embeds a text as its character codes, padded with zeros."""

    supported_requests = (EmbeddingRequest,)
    concurrency = 2

    def generate(self, request: EmbeddingRequest) -> Iterator[Event | None]:
        yield Started(prompt_tokens=1)
        yield from self.embed([str(text) for text in request.inputs])
        yield Finished()

    def embed(self, texts: Sequence[str]) -> Iterator[Event]:
        for index, text in enumerate(texts):
            yield EmbeddingBatch((index,), self.vector(text))

    def vector(self, text: str) -> bytes:
        return array("f", [*map(ord, text), *[0] * (8 - len(text))]).tobytes()


class EmbeddingContract(ModelContract):
    requests: ClassVar[Sequence[Request]] = tuple(
        EmbeddingRequest(id="contract", model="contract", inputs=inputs) for inputs in (("one", "two"), ("three",))
    )


class TestEmbeds(EmbeddingContract):
    backend = backend(Embeds, supported_requests=(EmbeddingRequest,))


class OmitsVectors(Embeds):
    def embed(self, texts: Sequence[str]) -> Iterator[Event]:
        yield EmbeddingBatch((0,), self.vector(texts[0]))


class TestOmitsVectors(EmbeddingContract):
    backend = backend(OmitsVectors, supported_requests=(EmbeddingRequest,))


class OmitsIndices(Embeds):
    def embed(self, texts: Sequence[str]) -> Iterator[Event]:
        yield EmbeddingBatch((), b"".join(map(self.vector, texts)))


class TestOmitsIndices(EmbeddingContract):
    backend = backend(OmitsIndices, supported_requests=(EmbeddingRequest,))


class RepeatsIndices(Embeds):
    def embed(self, texts: Sequence[str]) -> Iterator[Event]:
        yield from super().embed(texts)
        yield EmbeddingBatch((0,), self.vector(texts[0]))


class TestRepeatsIndices(EmbeddingContract):
    backend = backend(RepeatsIndices, supported_requests=(EmbeddingRequest,))


class YieldsStrings(ValidModel):
    def spell(self, content: str, n: int) -> Iterator[Any]:
        yield content
        yield from super().spell(content, n)


class TestYieldsStrings(TrialContract):
    backend = backend(YieldsStrings)


class Miscounts(ValidModel):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield from super().spell(content, n - 1)
        yield TextDelta(content, choice=n - 1)


class TestMiscounts(TrialContract):
    backend = backend(Miscounts)


class TestIgnoresMaxTokens(TrialContract):
    backend = backend(ValidModel)
    requests = (chat("one", max_tokens=2), chat("two"))


class FinishesChoicesTwice(ValidModel):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield from super().spell(content, n)
        yield ChoiceFinished("stop", 0)


class TestFinishesChoicesTwice(TrialContract):
    backend = backend(FinishesChoicesTwice)


class KeepsSlotWhenCancelled(ValidModel):
    concurrency = 1

    @contextmanager
    def slot(self) -> Iterator[None]:
        slot = self.slots.pop()
        self.finished = False
        try:
            yield
        finally:
            if self.finished:
                self.slots.append(slot)

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield from super().spell(content, n)
        self.finished = True


class TestKeepsSlotWhenCancelled(TrialContract):
    backend = backend(KeepsSlotWhenCancelled)


class SwallowsGeneratorExit(ValidModel):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        try:
            yield from super().spell(content, n)
        except GeneratorExit:
            yield None


class TestSwallowsGeneratorExit(TrialContract):
    backend = backend(SwallowsGeneratorExit)


class LeaksCancelledOutput(ValidModel):
    """Begins the next output with that of a cancelled request."""

    concurrency = 1
    left = ""

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        text, self.left = self.left + content, content
        yield from super().spell(text, n)
        self.left = ""


class TestLeaksCancelledOutput(TrialContract):
    backend = backend(LeaksCancelledOutput)


class MixesRequests(ValidModel):
    """Spells the latest request's content for all requests."""

    content = ""

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        self.content = content
        for choice in range(n):
            for index in range(len(content)):
                yield TextDelta(self.content[index : index + 1], choice=choice)
            yield ChoiceFinished("stop", choice)


class TestMixesRequests(TrialContract):
    backend = backend(MixesRequests)


class LosesRequestsOnCancel(ValidModel):
    """Loses the text of all running requests when one is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = 0

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        before = self.cancelled
        try:
            for event in super().spell(content, n):
                yield event if self.cancelled == before or not isinstance(event, TextDelta) else replace(event, text="")
        except GeneratorExit:
            self.cancelled += 1
            raise


class TestLosesRequestsOnCancel(TrialContract):
    backend = backend(LosesRequestsOnCancel)


class HasFewerSlotsThanConcurrency(ValidModel):
    def __init__(self) -> None:
        self.slots = [0, 1]


class TestHasFewerSlotsThanConcurrency(TrialContract):
    backend = backend(HasFewerSlotsThanConcurrency)


@dataclass(frozen=True)
class Locked(Event):
    lock: Any


class Unpicklable(ValidModel):
    lock = threading.Lock()

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield Locked(self.lock)
        yield from super().spell(content, n)


class TestUnpicklable(TrialContract):
    backend = backend(Unpicklable)


class Crashes(ValidModel):
    def read(self, request: ChatRequest) -> str:
        request.messages[-1]["content"].strip()
        return super().read(request)


class TestCrashes(TrialContract):
    backend = backend(Crashes)


class RejectsWithEngineError(ValidModel):
    def read(self, request: ChatRequest) -> str:
        try:
            return super().read(request)
        except InvalidRequestError as error:
            raise EngineError(str(error)) from error


class TestRejectsWithEngineError(TrialContract):
    backend = backend(RejectsWithEngineError)


class IgnoresContextLength(ValidModel):
    def read(self, request: ChatRequest) -> str:
        content = request.messages[-1].get("content")
        return content if isinstance(content, str) else super().read(request)


class TestIgnoresContextLength(TrialContract):
    backend = backend(IgnoresContextLength)


class TestEqualRequests(TrialContract):
    backend = backend(ValidModel)
    requests = (chat("one"), chat("one"))


class Embed(Request):
    pass


class SupportsMoreRequests(ValidModel):
    supported_requests = (ChatRequest, Embed)


class TestSupportsMoreRequests(TrialContract):
    backend = backend(SupportsMoreRequests)


class OptionWithoutDescription(Options):
    depth: int = 1


class TestOptionWithoutDescription(TrialContract):
    backend = backend(ValidModel, OptionWithoutDescription)


class ReservedOptionName(Options):
    port: int = Field(1, description="A port.")


class TestReservedOptionName(TrialContract):
    backend = backend(ValidModel, ReservedOptionName)
