"""What every model must do, as tests to inherit."""

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

# Enough places to cut an answer at, few enough to be quick for a long one.
_CUTS = 20
# No sensible model gives way this often: it is waiting for something that does not come.
_MOST_TURNS = 100_000

_END = Event()


def chat(text: str, **more: Any) -> ChatRequest:
    """A request with one message from the user, greedy unless `more` says otherwise."""
    settings = {"sampling": Sampling(temperature=0), **more}
    return ChatRequest(id="contract", model="contract", messages=[{"role": "user", "content": text}], **settings)


class ModelContract:
    """Inherit, set `backend` and `requests`, and let pytest collect the subclass.

        class TestMyModel(ModelContract):
            backend = BACKEND
            requests = (chat("Hello"), chat("What is the capital of France?", max_tokens=12))

    The requests are two or more, of types that the model serves, with answers that differ and are the same each time;
    a dozen tokens are enough. A backend that needs a model on disk overrides `path`.
    """

    backend: ClassVar[Backend[Any]]
    requests: ClassVar[Sequence[Request]]
    options: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def path(cls, empty: Path) -> Path | None:
        """The folder or file to load, if the backend needs one; it may be made in the folder `empty`."""
        return None

    def unsuitable(self) -> Sequence[Request]:
        """Requests that the model may refuse; by default conversations of strange messages, if it serves chat."""
        strange: Sequence[Json] = (
            {"role": "user"},
            {"role": "user", "content": None},
            {"role": "user", "content": [{"type": "smell"}]},
        )
        conversations = [request for request in self.requests if isinstance(request, ChatRequest)]
        return [replace(conversation, messages=[message]) for conversation in conversations[:1] for message in strange]

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
        path = cls.path(tmp_path_factory.mktemp("model"))
        ref = None if path is None else str(path)
        model = cls.backend.load(LoadContext(ref, path, cls.backend.options(**cls.options), _no_progress))
        yield model
        model.close()

    @pytest.fixture(scope="class")
    @classmethod
    def alone(cls, model: Model) -> Sequence[object]:
        """The outcome of each request when it has the model to itself."""
        return [cls.outcome(answer(model, request)) for request in cls.requests]

    @classmethod
    def outcome(cls, events: Sequence[Event]) -> object:
        """What of an answer must be the same each time; override it where that is less than this.

        It is the text and the end of each choice and all events of other types as they are. How the text is cut into
        pieces, how much of the prompt was cached and log-probabilities may differ.
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

    def test_options_have_descriptions_and_names_of_their_own(self) -> None:
        assert issubclass(self.backend.options, Options)
        taken = ModelSettings.model_fields.keys() | HostSettings.model_fields.keys()
        for name, field in self.backend.options.model_fields.items():
            assert field.description, f"option {name!r} has no description; it is the help text of its flag"
            assert name not in taken, f"option {name!r} has the name of a setting of mlx-host itself"

    def test_settings_are_those_of_a_model(self) -> None:
        ModelSettings.model_validate({"backend": self.backend.name, **self.backend.settings})

    def test_options_pickle(self) -> None:
        _assert_pickles(self.backend.options(**self.options))

    def test_a_model_serves_what_its_backend_serves(self, model: Model) -> None:
        assert model.supported_requests, "the model serves nothing"
        for served in model.supported_requests:
            assert issubclass(served, self.backend.supported_requests), (
                f"the backend's `supported_requests` does not say {served.__name__}"
            )
        assert model.concurrency >= 1, f"concurrency is {model.concurrency}"
        assert model.context_length is None or model.context_length >= 1, f"context_length is {model.context_length}"

    # The requests

    def test_requests_are_fit_to_try(self, model: Model, alone: Sequence[object]) -> None:
        assert len(self.requests) >= 2, "neighbours can be told apart only with two or more requests"
        for request in self.requests:
            assert isinstance(request, model.supported_requests), f"the model does not serve {type(request).__name__}"
        assert any(outcome != alone[0] for outcome in alone), "all answers are alike: mixing them up would not show"

    def test_requests_and_events_pickle(self, model: Model) -> None:
        for request in self.requests:
            _assert_pickles(request)
            for event in answer(model, request):
                _assert_pickles(event)

    # One answer

    def test_output_follows_the_event_protocol(self, model: Model) -> None:
        for request in self.requests:
            checker = EventChecker(request)
            try:
                for step in begin(model, request):
                    checker.check_step(step)
                checker.check_end()
            except EventProtocolError as error:
                pytest.fail(f"{type(request).__name__}: {error}")

    def test_counts_add_up(self, model: Model) -> None:
        for request in self.requests:
            check_counts(request, answer(model, request))

    def test_choices_end_once(self, model: Model) -> None:
        for request in self.requests:
            finished: set[int] = set()
            for event in answer(model, request):
                if isinstance(event, (TextDelta, ChoiceFinished)):
                    assert event.choice not in finished, f"{event!r} comes after the end of its choice"
                if isinstance(event, ChoiceFinished):
                    finished.add(event.choice)

    # One answer after another

    def test_an_earlier_answer_does_not_show(self, model: Model, alone: Sequence[object]) -> None:
        everyone = range(len(self.requests))
        for index in (*everyone, *reversed(everyone)):
            self.check(index, answer(model, self.requests[index]), alone, "after other answers")

    def test_cancelling_leaves_no_trace(self, model: Model, alone: Sequence[object]) -> None:
        for index, request in enumerate(self.requests[:2]):
            for cut in cuts(model, request):
                together(model, [Visit(request, leave=cut)])
                for later in range(2):
                    said = answer(model, self.requests[later])
                    self.check(later, said, alone, f"after request {index} was cancelled in turn {cut}")

    # Answers side by side

    def test_neighbours_do_not_show(self, model: Model, alone: Sequence[object]) -> None:
        _skip_if_solitary(model)
        for first, second in ((0, 1), (1, 0)):
            for cut in cuts(model, self.requests[first]):
                said = together(model, [Visit(self.requests[first]), Visit(self.requests[second], start=cut)])
                for index, events in zip((first, second), said, strict=True):
                    self.check(index, events, alone, f"when request {second} joins {first} in turn {cut}")

    def test_a_cancelled_neighbour_does_not_show(self, model: Model, alone: Sequence[object]) -> None:
        _skip_if_solitary(model)
        for stays, leaves in ((0, 1), (1, 0)):
            stayer = Visit(self.requests[stays])
            for cut in cuts(model, self.requests[leaves]):
                leaver = Visit(self.requests[leaves], leave=cut)
                for said in (together(model, [stayer, leaver])[0], together(model, [leaver, stayer])[1]):
                    self.check(stays, said, alone, f"beside request {leaves}, cancelled in turn {cut}")

    def test_as_many_as_it_says_run_at_once(self, model: Model, alone: Sequence[object]) -> None:
        _skip_if_solitary(model)
        which = [turn % len(self.requests) for turn in range(min(model.concurrency, 16))]
        said = together(model, [Visit(self.requests[index], start=turn // 2) for turn, index in enumerate(which)])
        for index, events in zip(which, said, strict=True):
            self.check(index, events, alone, f"as one of {len(which)} at once")

    def check(self, index: int, events: Sequence[Event], alone: Sequence[object], circumstances: str) -> None:
        outcome = self.outcome(events)
        assert outcome == alone[index], f"request {index} {circumstances} gives {outcome!r}, alone {alone[index]!r}"

    # Refusals

    def test_what_does_not_suit_is_refused_or_answered(self, model: Model, alone: Sequence[object]) -> None:
        unsuitable = self.unsuitable()
        if not unsuitable:
            pytest.skip("`unsuitable` gives no requests")
        for request in unsuitable:
            try:
                events = answer(model, request)
            except RequestError as refusal:
                check_refusal(refusal)
            else:
                framed = events and isinstance(events[0], Started) and isinstance(events[-1], Finished)
                assert framed, f"{request!r} is neither refused nor answered: {events!r}"
            self.check(0, answer(model, self.requests[0]), alone, f"after {request!r}")

    def test_a_prompt_beyond_the_context_is_refused(self, model: Model, alone: Sequence[object]) -> None:
        if model.context_length is None or ChatRequest not in model.supported_requests:
            pytest.skip("the model says no context length")
        with pytest.raises(ContextLengthExceededError) as refusal:
            answer(model, chat("word " * model.context_length))
        check_refusal(refusal.value)
        self.check(0, answer(model, self.requests[0]), alone, "after too long a prompt")


@dataclass(frozen=True)
class Visit:
    """A request, the turn in which it starts and after how many turns of its own it is cancelled."""

    request: Request
    start: int = 0
    leave: int | None = None


def together(model: Model, visits: Sequence[Visit]) -> list[list[Event]]:
    """Do what the engine does: advance the open answers in turn, close those that end; return what each one said."""
    said: list[list[Event]] = [[] for _ in visits]
    waiting = dict(enumerate(visits))
    running: dict[int, Iterator[Event | None]] = {}
    turn = 0
    try:
        while waiting or running:
            for number in [number for number, visit in waiting.items() if visit.start <= turn]:
                request = waiting.pop(number).request
                running[number] = begin(model, replace(request, id=f"{request.id}-{number}"))
            for number, events in list(running.items()):
                visit = visits[number]
                leaves = visit.leave is not None and turn - visit.start >= visit.leave
                event = None if leaves else next(events, _END)
                news = iter_events(event) if isinstance(event, Event) and event is not _END else ()
                said[number] += news
                if leaves or event is _END or (news and isinstance(news[-1], Finished)):
                    _close(running.pop(number))
            turn += 1
    finally:
        for events in running.values():
            _close(events)
    return said


def answer(model: Model, request: Request) -> list[Event]:
    """The events of one request that has the model to itself."""
    return together(model, [Visit(request)])[0]


def begin(model: Model, request: Request) -> Iterator[Event | None]:
    """The steps of an answer to a copy of the request, as the model's process gets one; they must have an end."""
    events = model.generate(pickle.loads(pickle.dumps(request)))
    try:
        for turn, event in enumerate(events):
            assert turn < _MOST_TURNS, f"no Finished after {turn} turns"
            yield event
    finally:
        _close(events)


def cuts(model: Model, request: Request) -> list[int]:
    """Turns in which to cut the answer: all of them, or for a long one some, with the first and the last."""
    turns = sum(1 for _ in begin(model, request))
    step = -(-turns // _CUTS) or 1
    return sorted({*range(0, turns, step), 1, turns})


def check_counts(request: Request, events: Sequence[Event]) -> None:
    """The numbers in an answer fit each other and the request."""
    tokens: dict[int, int] = {}
    for event in events:
        match event:
            case Started():
                assert 0 <= event.cached_tokens <= event.prompt_tokens, f"{event!r}: more is cached than there is"
            case Progress():
                assert event.done >= 0, f"{event!r}: done is negative"
                assert event.total is None or event.done <= event.total, f"{event!r}: more is done than the total"
            case TextDelta():
                tokens[event.choice] = tokens.get(event.choice, 0) + event.token_count
            case Finished():
                if tokens or isinstance(request, GenerationRequest):
                    counted = sum(tokens.values())
                    assert event.completion_tokens == counted, f"{event!r}: the Text events hold {counted} tokens"
    if isinstance(request, GenerationRequest) and request.max_tokens is not None:
        for choice, count in tokens.items():
            assert count <= request.max_tokens, f"choice {choice} has {count} tokens of {request.max_tokens}"


def check_refusal(refusal: RequestError) -> None:
    assert 400 <= refusal.status < 500, f"{refusal!r} blames the server (status {refusal.status}) for the request"
    assert refusal.message, f"{type(refusal).__name__} does not say why"
    copy = pickle.loads(pickle.dumps(refusal))
    same = (type(copy), copy.__dict__, str(copy)) == (type(refusal), refusal.__dict__, str(refusal))
    assert same, f"pickling {refusal!r} gives {copy!r}"


def _assert_pickles(value: object) -> None:
    copy = pickle.loads(pickle.dumps(value))
    assert copy == value, f"pickling {value!r} gives {copy!r}"


def _close(events: Iterator[Event | None]) -> None:
    if isinstance(events, Generator):
        events.close()


def _skip_if_solitary(model: Model) -> None:
    if model.concurrency == 1:
        pytest.skip("the model answers one request at a time")


def _no_progress(stage: str, done: int, total: int, note: str = "") -> None:
    pass
