"""The contract of models, as tests to inherit."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mlx_host._engine.event_checker import EventChecker, EventProtocolError
from mlx_host._settings import HostSettings, ModelSettings
from mlx_host.backend import Backend, LoadContext, Model, Options
from mlx_host.errors import ContextLengthExceededError, RequestError
from mlx_host.events import ChoiceFinished, Event, Finished, Progress, Started, StopReason, TextDelta, iter_events
from mlx_host.requests import ChatRequest, GenerationRequest, Json, Request, Sampling

# The maximum number of steps at which a request is cancelled or joined: enough for good coverage, but still fast.
_MAX_SAMPLED_STEPS = 20
# A model that takes more steps waits for something that never happens.
_MAX_STEPS = 100_000

_EXHAUSTED = Event()


def chat(text: str, **fields: Any) -> ChatRequest:
    """Return a chat request with one user message and greedy decoding; `fields` are further fields of the request."""
    fields = {"sampling": Sampling(temperature=0), **fields}
    return ChatRequest(id="contract", model="contract", messages=[{"role": "user", "content": text}], **fields)


class ModelContract:
    """Inherit, set `backend` and `requests`, and let pytest collect the subclass.

        class TestMyModel(ModelContract):
            backend = BACKEND
            requests = (chat("Hello"), chat("What is the capital of France?", max_tokens=12))

    Set at least two `requests` of supported types whose outputs are deterministic and differ from each other; a dozen
    tokens each are enough. Override `path` if the backend needs a model on disk.
    """

    backend: ClassVar[Backend[Any]]
    requests: ClassVar[Sequence[Request]]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def path(cls, empty: Path) -> Path | None:
        """Return the folder or file to load, if the backend needs one; it may be created in the folder `empty`."""
        return None

    def unsuitable(self) -> Sequence[Request]:
        """Return requests that the model may reject; by default, if it supports chat, ones with unusual messages."""
        messages: Sequence[Json] = (
            {"role": "user"},
            {"role": "user", "content": None},
            {"role": "user", "content": [{"type": "smell"}]},
        )
        conversations = [request for request in self.requests if isinstance(request, ChatRequest)]
        return [replace(conversation, messages=[message]) for conversation in conversations[:1] for message in messages]

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
        path = cls.path(tmp_path_factory.mktemp("model"))
        ref = None if path is None else str(path)
        if path is not None and cls.backend.accepts is not None:
            reason = cls.backend.accepts(path)
            assert reason is None, f"accepts rejects the model: {reason}"
        model = cls.backend.load(LoadContext(ref, path, cls.backend.options(**cls.options), _no_progress))
        yield model
        model.close()

    @pytest.fixture(scope="class")
    @classmethod
    def baseline(cls, model: Model) -> Sequence[object]:
        """The outcome of each request when no other request is running."""
        return [cls.outcome(run_alone(model, request)) for request in cls.requests]

    @classmethod
    def outcome(cls, events: Sequence[Event]) -> object:
        """Return what must be equal each time a request runs; override it if the output is less deterministic.

        By default the text and finish reason of each choice, and all events of other types. The division of the text
        into events, the number of cached tokens and log-probabilities may differ.
        """
        texts: dict[int, str] = {}
        reasons: dict[int, StopReason] = {}
        others: list[object] = []
        for event in events:
            match event:
                case Started():
                    others.append((event.prompt_tokens, event.generation_prompt))
                case Progress():
                    pass
                case TextDelta():
                    texts[event.choice] = texts.get(event.choice, "") + event.text
                case ChoiceFinished():
                    reasons[event.choice] = event.reason
                case _:
                    others.append(event)
        return texts, reasons, others

    # The backend

    def test_options_have_descriptions_and_unique_names(self) -> None:
        assert issubclass(self.backend.options, Options)
        reserved = ModelSettings.model_fields.keys() | HostSettings.model_fields.keys()
        for name, field in self.backend.options.model_fields.items():
            assert field.description, f"option {name!r} has no description; it is the help text of its flag"
            assert name not in reserved, f"option {name!r} has the same name as a setting of mlx-host"

    def test_settings_are_valid(self) -> None:
        ModelSettings.model_validate({"backend": self.backend.name, **self.backend.settings})

    def test_options_pickle(self) -> None:
        _assert_pickles(self.backend.options(**self.options))

    def test_the_backend_declares_the_supported_requests(self, model: Model) -> None:
        assert model.supported_requests, "supported_requests is empty"
        for supported in model.supported_requests:
            assert issubclass(supported, self.backend.supported_requests), (
                f"supported_requests of the backend does not include {supported.__name__}"
            )
        assert model.concurrency >= 1, f"concurrency is {model.concurrency}"
        assert model.context_length is None or model.context_length >= 1, f"context_length is {model.context_length}"

    # The requests

    def test_requests_are_supported_and_differ(self, model: Model, baseline: Sequence[object]) -> None:
        assert len(self.requests) >= 2, f"`requests` must have at least 2 items, got {len(self.requests)}"
        for request in self.requests:
            assert isinstance(request, model.supported_requests), f"the model does not support {type(request).__name__}"
        assert any(outcome != baseline[0] for outcome in baseline), "all requests have the same output"

    def test_requests_and_events_pickle(self, model: Model) -> None:
        for request in self.requests:
            _assert_pickles(request)
            for event in run_alone(model, request):
                _assert_pickles(event)

    # One request

    def test_output_follows_the_event_protocol(self, model: Model) -> None:
        for request in self.requests:
            checker = EventChecker(request)
            try:
                for step in start(model, request):
                    checker.check_step(step)
                checker.check_end()
            except EventProtocolError as error:
                pytest.fail(f"{type(request).__name__}: {error}")

    def test_counts_add_up(self, model: Model) -> None:
        for request in self.requests:
            check_counts(request, run_alone(model, request))

    def test_choices_end_once(self, model: Model) -> None:
        for request in self.requests:
            finished: set[int] = set()
            for event in run_alone(model, request):
                if isinstance(event, (TextDelta, ChoiceFinished)):
                    assert event.choice not in finished, f"{event!r} after the ChoiceFinished of its choice"
                if isinstance(event, ChoiceFinished):
                    finished.add(event.choice)

    # Consecutive requests

    def test_output_is_independent_of_earlier_requests(self, model: Model, baseline: Sequence[object]) -> None:
        indices = range(len(self.requests))
        for index in (*indices, *reversed(indices)):
            self.check(index, run_alone(model, self.requests[index]), baseline, "after other requests")

    def test_output_is_independent_of_cancelled_requests(self, model: Model, baseline: Sequence[object]) -> None:
        for index, request in enumerate(self.requests[:2]):
            for step in sampled_steps(model, request):
                run_together(model, [ScheduledRequest(request, cancel_after=step)])
                for later in range(2):
                    events = run_alone(model, self.requests[later])
                    self.check(later, events, baseline, f"after request {index} was cancelled in step {step}")

    # Concurrent requests

    def test_output_is_independent_of_concurrent_requests(self, model: Model, baseline: Sequence[object]) -> None:
        _skip_without_concurrency(model)
        for first, second in ((0, 1), (1, 0)):
            for step in sampled_steps(model, self.requests[first]):
                schedule = [ScheduledRequest(self.requests[first]), ScheduledRequest(self.requests[second], start=step)]
                for index, events in zip((first, second), run_together(model, schedule), strict=True):
                    self.check(index, events, baseline, f"when request {second} joins request {first} in step {step}")

    def test_output_is_independent_of_cancelled_concurrent_requests(
        self, model: Model, baseline: Sequence[object]
    ) -> None:
        _skip_without_concurrency(model)
        for completed, cancelled in ((0, 1), (1, 0)):
            first = ScheduledRequest(self.requests[completed])
            for step in sampled_steps(model, self.requests[cancelled]):
                second = ScheduledRequest(self.requests[cancelled], cancel_after=step)
                for events in (run_together(model, [first, second])[0], run_together(model, [second, first])[1]):
                    circumstances = f"together with request {cancelled}, which was cancelled in step {step},"
                    self.check(completed, events, baseline, circumstances)

    def test_declared_concurrency_is_supported(self, model: Model, baseline: Sequence[object]) -> None:
        _skip_without_concurrency(model)
        indices = [number % len(self.requests) for number in range(min(model.concurrency, 16))]
        schedule = [ScheduledRequest(self.requests[index], start=number // 2) for number, index in enumerate(indices)]
        for index, events in zip(indices, run_together(model, schedule), strict=True):
            self.check(index, events, baseline, f"as one of {len(indices)} concurrent requests")

    def check(self, index: int, events: Sequence[Event], baseline: Sequence[object], circumstances: str) -> None:
        outcome = self.outcome(events)
        assert outcome == baseline[index], f"request {index} {circumstances} gives {outcome!r}, not {baseline[index]!r}"

    # Rejected requests

    def test_unsuitable_requests_are_rejected_or_completed(self, model: Model, baseline: Sequence[object]) -> None:
        unsuitable = self.unsuitable()
        if not unsuitable:
            pytest.skip("`unsuitable` returns no requests")
        for request in unsuitable:
            try:
                events = run_alone(model, request)
            except RequestError as error:
                check_rejection(error)
            else:
                is_complete = events and isinstance(events[0], Started) and isinstance(events[-1], Finished)
                assert is_complete, f"{request!r} is neither rejected nor completed: {events!r}"
            self.check(0, run_alone(model, self.requests[0]), baseline, f"after {request!r}")

    def test_prompts_longer_than_the_context_are_rejected(self, model: Model, baseline: Sequence[object]) -> None:
        if model.context_length is None or ChatRequest not in model.supported_requests:
            pytest.skip("the model has no context length or does not support chat")
        with pytest.raises(ContextLengthExceededError) as raised:
            run_alone(model, chat("word " * model.context_length))
        check_rejection(raised.value)
        self.check(0, run_alone(model, self.requests[0]), baseline, "after a prompt that was too long")


@dataclass(frozen=True)
class ScheduledRequest:
    """A request, the step in which it starts, and the number of steps after which it is cancelled, if it is."""

    request: Request
    start: int = 0
    cancel_after: int | None = None


def run_together(model: Model, schedule: Sequence[ScheduledRequest]) -> list[list[Event]]:
    """Run requests as the engine does: advance all running ones in each step. Return the events of each request."""
    output: list[list[Event]] = [[] for _ in schedule]
    waiting = dict(enumerate(schedule))
    running: dict[int, Iterator[Event | None]] = {}
    step = 0
    try:
        while waiting or running:
            for number in [number for number, scheduled in waiting.items() if scheduled.start <= step]:
                request = waiting.pop(number).request
                running[number] = start(model, replace(request, id=f"{request.id}-{number}"))
            for number, events in list(running.items()):
                scheduled = schedule[number]
                cancelled = scheduled.cancel_after is not None and step - scheduled.start >= scheduled.cancel_after
                event = None if cancelled else next(events, _EXHAUSTED)
                new_events = iter_events(event) if isinstance(event, Event) and event is not _EXHAUSTED else ()
                output[number] += new_events
                if cancelled or event is _EXHAUSTED or (new_events and isinstance(new_events[-1], Finished)):
                    _close(running.pop(number))
            step += 1
    finally:
        for events in running.values():
            _close(events)
    return output


def run_alone(model: Model, request: Request) -> list[Event]:
    """Run one request while no other is running; return its events."""
    return run_together(model, [ScheduledRequest(request)])[0]


def start(model: Model, request: Request) -> Iterator[Event | None]:
    """Yield the steps of a request, which is pickled and unpickled first, like one sent to a worker process."""
    events = model.generate(pickle.loads(pickle.dumps(request)))
    try:
        for step, event in enumerate(events):
            assert step < _MAX_STEPS, f"no Finished event after {step} steps"
            yield event
    finally:
        _close(events)


def sampled_steps(model: Model, request: Request) -> list[int]:
    """Return some steps of a request, or all if there are few, including the first and the last."""
    count = sum(1 for _ in start(model, request))
    stride = -(-count // _MAX_SAMPLED_STEPS) or 1
    return sorted({*range(0, count, stride), 1, count})


def check_counts(request: Request, events: Sequence[Event]) -> None:
    """Check that token counts and progress are consistent with each other and with the request."""
    tokens: dict[int, int] = {}
    for event in events:
        match event:
            case Started():
                assert 0 <= event.cached_tokens <= event.prompt_tokens, f"{event!r}: cached_tokens is out of range"
            case Progress():
                assert event.done >= 0, f"{event!r}: done is negative"
                assert event.total is None or event.done <= event.total, f"{event!r}: done exceeds the total"
            case TextDelta():
                tokens[event.choice] = tokens.get(event.choice, 0) + event.token_count
            case Finished():
                if tokens or isinstance(request, GenerationRequest):
                    counted = sum(tokens.values())
                    assert event.completion_tokens == counted, f"{event!r}: the TextDelta events have {counted} tokens"
    if isinstance(request, GenerationRequest) and request.max_tokens is not None:
        for choice, count in tokens.items():
            assert count <= request.max_tokens, f"choice {choice} has {count} tokens, max_tokens {request.max_tokens}"


def check_rejection(error: RequestError) -> None:
    """Check that an error is a client error with a message, and that it can be pickled."""
    assert 400 <= error.status < 500, f"{error!r} has status {error.status}, expected 400 to 499"
    assert error.message, f"{type(error).__name__} has no message"
    copy = pickle.loads(pickle.dumps(error))
    is_equal = (type(copy), copy.__dict__, str(copy)) == (type(error), error.__dict__, str(error))
    assert is_equal, f"{error!r} is {copy!r} after pickling"


def _assert_pickles(value: object) -> None:
    copy = pickle.loads(pickle.dumps(value))
    assert copy == value, f"{value!r} is {copy!r} after pickling"


def _close(events: Iterator[Event | None]) -> None:
    if isinstance(events, Generator):
        events.close()


def _skip_without_concurrency(model: Model) -> None:
    if model.concurrency == 1:
        pytest.skip("the model runs one request at a time")


def _no_progress(stage: str, done: int, total: int, note: str = "") -> None:
    pass
