"""Runs a model's generators as the engine loop does, and collects the events of each request."""

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
request_ids = count()
T = TypeVar("T")


def no_progress(stage: str, done: int, total: int, note: str = "") -> None:
    """A progress callback that does nothing."""


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


def chat_request(
    messages: str | Sequence[Json] = "Say something.",
    *,
    sampling: Sampling = GREEDY,
    max_tokens: int | None = 16,
    **fields: Any,
) -> ChatRequest:
    """A chat request, greedy by default; a string is the content of a user message."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return ChatRequest(
        id=f"r{next(request_ids)}", model="m", messages=messages, sampling=sampling, max_tokens=max_tokens, **fields
    )


@dataclass
class RequestOutput:
    """The accumulated events of one request; `texts`, `tokens`, `logprobs` and `reasons` are by choice."""

    started: Started | None = None
    finished: Finished | None = None
    texts: dict[int, str] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    logprobs: dict[int, list[Logprobs]] = field(default_factory=dict)
    reasons: dict[int, StopReason] = field(default_factory=dict)
    prefill_progress: list[Progress] = field(default_factory=list)
    deltas: list[TextDelta] = field(default_factory=list)

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
        assert self.finished is None, f"{event} after Finished"
        assert self.started is not None or event is None or isinstance(event, Started)
        match event:
            case Started():
                assert self.started is None
                self.started = event
            case Progress():
                self.prefill_progress.append(event)
            case TextDelta():
                assert event.choice not in self.reasons
                self.deltas.append(event)
                self.texts[event.choice] = self.texts.get(event.choice, "") + event.text
                self.tokens[event.choice] = self.tokens.get(event.choice, 0) + event.token_count
                self.logprobs.setdefault(event.choice, []).extend(event.logprobs)
            case ChoiceFinished():
                self.reasons[event.choice] = event.reason
            case Finished():
                self.finished = event
                assert event.completion_tokens == sum(self.tokens.values())


class EngineLoop:
    """Running generators, each advanced once per step; requests can be added and cancelled between steps."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self._running: list[tuple[Iterator[Event | None], RequestOutput]] = []

    @property
    def requests(self) -> int:
        """The number of running requests."""
        return len(self._running)

    def add(self, request: GenerationRequest) -> RequestOutput:
        """Start a request; its output is filled while the loop runs."""
        output = RequestOutput()
        self._running.append((self._model.generate(request), output))
        return output

    def cancel(self, output: RequestOutput) -> None:
        """Close the generator of a request."""
        for generator, each in self._running:
            if each is output:
                generator.close()  # type: ignore[attr-defined]  # it is a generator
        self._drop(output)

    def step(self) -> None:
        """Advance every generator once; a request that raises is removed."""
        for generator, output in list(self._running):
            try:
                event = next(generator)
            except StopIteration:
                assert output.finished is not None
                self._drop(output)
            except Exception:
                self._drop(output)
                raise
            else:
                for each in (None,) if event is None else iter_events(event):
                    output.add(each)

    def run(self) -> None:
        """Step until all requests have finished."""
        while self._running:
            self.step()

    def _drop(self, output: RequestOutput) -> None:
        self._running = [pair for pair in self._running if pair[1] is not output]


def generate(model: TextModel, *requests: GenerationRequest) -> list[RequestOutput]:
    """Run requests together."""
    loop = EngineLoop(model)
    outputs = [loop.add(request) for request in requests]
    loop.run()
    return outputs


def generate_one(model: TextModel, request: GenerationRequest) -> RequestOutput:
    """Run one request."""
    return generate(model, request)[0]
