"""Sound models and broken ones under the model contract, to be run by test_model_contract.py in a pytest of its own."""

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


class Sound(Model):
    """Spells the last message, with as many choices as are asked for; uses all the contract has."""

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
            raise InvalidRequestError("a message needs text", param="messages")
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


class TestSound(TrialContract):
    backend = backend(Sound)


class Solitary(Sound):
    concurrency = 1
    context_length = None


class TestSolitary(TrialContract):
    backend = backend(Solitary)


class WithoutFinished(Sound):
    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        for event in super().generate(request):
            if not isinstance(event, Finished):
                yield event


class TestWithoutFinished(TrialContract):
    backend = backend(WithoutFinished)


class Endless(Sound):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        while True:
            yield None


class TestEndless(TrialContract):
    backend = backend(Endless)


class TalksOn(Sound):
    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        yield from super().generate(request)
        yield TextDelta("by the way")


class TestTalksOn(TrialContract):
    backend = backend(TalksOn)


class StartsLate(Sound):
    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        yield Progress("prefill", 0, 1)
        yield from super().generate(request)


class TestStartsLate(TrialContract):
    backend = backend(StartsLate)


class StartsTwice(Sound):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield Started(prompt_tokens=len(content))
        yield from super().spell(content, n)


class TestStartsTwice(TrialContract):
    backend = backend(StartsTwice)


class NumbersChoicesFromOne(Sound):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        for event in super().spell(content, n):
            yield replace(event, choice=event.choice + 1) if isinstance(event, (TextDelta, ChoiceFinished)) else event


class TestNumbersChoicesFromOne(TrialContract):
    backend = backend(NumbersChoicesFromOne)


class Embeds(Model):
    """Embeds a text as the numbers of its letters, padded with zeros."""

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


class LeavesVectorsOut(Embeds):
    def embed(self, texts: Sequence[str]) -> Iterator[Event]:
        yield EmbeddingBatch((0,), self.vector(texts[0]))


class TestLeavesVectorsOut(EmbeddingContract):
    backend = backend(LeavesVectorsOut, supported_requests=(EmbeddingRequest,))


class GivesNoIndices(Embeds):
    def embed(self, texts: Sequence[str]) -> Iterator[Event]:
        yield EmbeddingBatch((), b"".join(map(self.vector, texts)))


class TestGivesNoIndices(EmbeddingContract):
    backend = backend(GivesNoIndices, supported_requests=(EmbeddingRequest,))


class RepeatsIndices(Embeds):
    def embed(self, texts: Sequence[str]) -> Iterator[Event]:
        yield from super().embed(texts)
        yield EmbeddingBatch((0,), self.vector(texts[0]))


class TestRepeatsIndices(EmbeddingContract):
    backend = backend(RepeatsIndices, supported_requests=(EmbeddingRequest,))


class SaysStrings(Sound):
    def spell(self, content: str, n: int) -> Iterator[Any]:
        yield content
        yield from super().spell(content, n)


class TestSaysStrings(TrialContract):
    backend = backend(SaysStrings)


class Miscounts(Sound):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield from super().spell(content, n - 1)
        yield TextDelta(content, choice=n - 1)


class TestMiscounts(TrialContract):
    backend = backend(Miscounts)


class TestIgnoresMaxTokens(TrialContract):
    backend = backend(Sound)
    requests = (chat("one", max_tokens=2), chat("two"))


class EndsChoicesTwice(Sound):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield from super().spell(content, n)
        yield ChoiceFinished("stop", 0)


class TestEndsChoicesTwice(TrialContract):
    backend = backend(EndsChoicesTwice)


class KeepsSlotWhenCancelled(Sound):
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


class SwallowsCancelling(Sound):
    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        try:
            yield from super().spell(content, n)
        except GeneratorExit:
            yield None


class TestSwallowsCancelling(TrialContract):
    backend = backend(SwallowsCancelling)


class RemembersWhatWasCancelled(Sound):
    """Begins the next answer with a cancelled one."""

    concurrency = 1
    left = ""

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        text, self.left = self.left + content, content
        yield from super().spell(text, n)
        self.left = ""


class TestRemembersWhatWasCancelled(TrialContract):
    backend = backend(RemembersWhatWasCancelled)


class MixesNeighbours(Sound):
    """Spells all answers from the content that came last."""

    content = ""

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        self.content = content
        for choice in range(n):
            for index in range(len(content)):
                yield TextDelta(self.content[index : index + 1], choice=choice)
            yield ChoiceFinished("stop", choice)


class TestMixesNeighbours(TrialContract):
    backend = backend(MixesNeighbours)


class LosesNeighboursOnCancel(Sound):
    """Forgets all running answers when one is cancelled."""

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


class TestLosesNeighboursOnCancel(TrialContract):
    backend = backend(LosesNeighboursOnCancel)


class HasFewerSlotsThanItSays(Sound):
    def __init__(self) -> None:
        self.slots = [0, 1]


class TestHasFewerSlotsThanItSays(TrialContract):
    backend = backend(HasFewerSlotsThanItSays)


@dataclass(frozen=True)
class Locked(Event):
    lock: Any


class Unpicklable(Sound):
    lock = threading.Lock()

    def spell(self, content: str, n: int) -> Iterator[Event | None]:
        yield Locked(self.lock)
        yield from super().spell(content, n)


class TestUnpicklable(TrialContract):
    backend = backend(Unpicklable)


class Crashes(Sound):
    def read(self, request: ChatRequest) -> str:
        request.messages[-1]["content"].strip()
        return super().read(request)


class TestCrashes(TrialContract):
    backend = backend(Crashes)


class BlamesItself(Sound):
    def read(self, request: ChatRequest) -> str:
        try:
            return super().read(request)
        except InvalidRequestError as error:
            raise EngineError(str(error)) from error


class TestBlamesItself(TrialContract):
    backend = backend(BlamesItself)


class OverrunsItsContext(Sound):
    def read(self, request: ChatRequest) -> str:
        content = request.messages[-1].get("content")
        return content if isinstance(content, str) else super().read(request)


class TestOverrunsItsContext(TrialContract):
    backend = backend(OverrunsItsContext)


class TestAlike(TrialContract):
    backend = backend(Sound)
    requests = (chat("one"), chat("one"))


class Embed(Request):
    pass


class ServesMore(Sound):
    supported_requests = (ChatRequest, Embed)


class TestServesMore(TrialContract):
    backend = backend(ServesMore)


class Unexplained(Options):
    depth: int = 1


class TestUnexplained(TrialContract):
    backend = backend(Sound, Unexplained)


class Taken(Options):
    port: int = Field(1, description="Where the ship lies.")


class TestTaken(TrialContract):
    backend = backend(Sound, Taken)
