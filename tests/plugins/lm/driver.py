"""What the engine does with a model, in a few lines: advance the open generators in turn."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from mlx_host.backend import LoadContext
from mlx_host.events import (
    ChoiceFinished,
    Event,
    Finished,
    Logprobs,
    Progress,
    Started,
    StopReason,
    TextDelta,
    iter_events,
)
from mlx_host.requests import ChatRequest, GenerationRequest, Json, Sampling
from mlx_host_lm.loader import load_model
from mlx_host_lm.options import LmOptions
from mlx_host_text.model import TextModel

GREEDY = Sampling(temperature=0.0)
ids = count()
T = TypeVar("T")


def no_progress(stage: str, done: int, total: int, note: str = "") -> None:
    """Nobody watches."""


def result(steps: Generator[None, None, T]) -> T:
    """Run a generator to its end and return its value."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            value: T = stop.value
            return value


def load(folder: Path, **options: Any) -> TextModel:
    return load_model(LoadContext(ref=str(folder), path=folder, options=LmOptions(**options), progress=no_progress))


def ask(
    messages: str | Sequence[Json] = "Say something.",
    *,
    sampling: Sampling = GREEDY,
    max_tokens: int | None = 16,
    **more: Any,
) -> ChatRequest:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return ChatRequest(
        id=f"r{next(ids)}", model="m", messages=messages, sampling=sampling, max_tokens=max_tokens, **more
    )


@dataclass
class Answered:
    """One request's events, added up."""

    started: Started | None = None
    finished: Finished | None = None
    texts: dict[int, str] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    logprobs: dict[int, list[Logprobs]] = field(default_factory=dict)
    reasons: dict[int, StopReason] = field(default_factory=dict)
    prefilled: list[Progress] = field(default_factory=list)
    pieces: list[TextDelta] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.texts.get(0, "")

    @property
    def reason(self) -> StopReason:
        assert self.finished is not None
        return self.finished.reason

    @property
    def completion_tokens(self) -> int:
        assert self.finished is not None
        return self.finished.completion_tokens

    @property
    def cached_tokens(self) -> int:
        assert self.started is not None
        return self.started.cached_tokens

    @property
    def prompt_tokens(self) -> int:
        assert self.started is not None
        return self.started.prompt_tokens

    def add(self, event: Event | None) -> None:
        assert self.finished is None, f"{event} came after the end"
        assert self.started is not None or event is None or isinstance(event, Started)
        match event:
            case Started():
                assert self.started is None
                self.started = event
            case Progress():
                self.prefilled.append(event)
            case TextDelta():
                assert event.choice not in self.reasons
                self.pieces.append(event)
                self.texts[event.choice] = self.texts.get(event.choice, "") + event.text
                self.tokens[event.choice] = self.tokens.get(event.choice, 0) + event.tokens
                self.logprobs.setdefault(event.choice, []).extend(event.logprobs)
            case ChoiceFinished():
                self.reasons[event.choice] = event.reason
            case Finished():
                self.finished = event
                assert event.completion_tokens == sum(self.tokens.values())


class Round:
    """Open generators, advanced in turn; requests join and leave at any time."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self._open: list[tuple[Iterator[Event | None], Answered]] = []

    def join(self, request: GenerationRequest) -> Answered:
        answered = Answered()
        self._open.append((self._model.generate(request), answered))
        return answered

    def leave(self, answered: Answered) -> None:
        for generator, whose in self._open:
            if whose is answered:
                generator.close()  # type: ignore[attr-defined]
        self._open = [pair for pair in self._open if pair[1] is not answered]

    def turn(self) -> None:
        for generator, answered in list(self._open):
            try:
                said = next(generator)
                for event in (None,) if said is None else iter_events(said):
                    answered.add(event)
            except StopIteration:
                assert answered.finished is not None
                self._open = [pair for pair in self._open if pair[1] is not answered]

    def finish(self) -> None:
        while self._open:
            self.turn()


def answer(model: TextModel, *requests: GenerationRequest) -> list[Answered]:
    """Answer these requests together."""
    open_requests = Round(model)
    answers = [open_requests.join(request) for request in requests]
    open_requests.finish()
    return answers


def answer_one(model: TextModel, request: GenerationRequest) -> Answered:
    return answer(model, request)[0]
