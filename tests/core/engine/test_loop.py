from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from mlx_host._engine import loop
from mlx_host._engine.ipc import Cancel, CancelAck, Shutdown, StepOutput, Submit
from mlx_host.backend import Model
from mlx_host.errors import EngineError, InvalidRequestError, RequestError, UnsupportedRequestError
from mlx_host.events import Event, EventBatch, Finished, Started, TextDelta
from mlx_host.requests import ChatRequest, Request

Output = list[tuple[str, Event | RequestError]]


class ScriptedModel(Model):
    """Calls the function that the only message of a request names."""

    def __init__(self, **doings: Callable[[], Iterator[Any]]) -> None:
        self._doings = doings
        self.closed = 0

    def generate(self, request: ChatRequest) -> Iterator[Any]:
        return self._doings[request.messages[0]["content"]]()

    def close(self) -> None:
        self.closed += 1


def ask(what: str, id: str = "r", **more: Any) -> ChatRequest:
    return ChatRequest(id=id, model="m", messages=[{"role": "user", "content": what}], **more)


def fine() -> Iterator[Event | None]:
    yield Started(prompt_tokens=1)
    yield TextDelta("a")
    yield Finished(completion_tokens=1)


def submit(what: str, id: str = "r") -> Submit:
    return Submit.of(ask(what, id))


def run_to_the_end(model: Model, *requests: Request) -> Output:
    running = loop.Loop(model)
    for request in requests:
        running.submit(Submit.of(request))
    output: Output = []
    while not running.idle:
        output += running.step()
    return output


def error(output: Output) -> str:
    last = output[-1][1]
    assert isinstance(last, EngineError)
    return last.message


def test_generators_are_advanced_in_turn() -> None:
    output = run_to_the_end(ScriptedModel(fine=fine), ask("fine", "one"), ask("fine", "two"))
    # The newest first: an older one may then run a forward pass for all of them.
    assert [id for id, _ in output] == ["two", "one"] * 3


def test_failing_request_does_not_affect_others() -> None:
    def broken() -> Iterator[Event]:
        yield Started(prompt_tokens=1)
        raise ZeroDivisionError("by zero")

    output = run_to_the_end(ScriptedModel(fine=fine, broken=broken), ask("broken", "bad"), ask("fine", "good"))
    assert [event for id, event in output if id == "good"] == [*fine()]
    assert "ZeroDivisionError: by zero" in error([each for each in output if each[0] == "bad"])


def test_rejection_keeps_its_class() -> None:
    def reject() -> Iterator[Event]:
        raise InvalidRequestError("no", param="messages")

    (_, rejected), *rest = run_to_the_end(ScriptedModel(reject=reject), ask("reject"))
    assert isinstance(rejected, InvalidRequestError)
    assert (rejected.message, rejected.param) == ("no", "messages")
    assert not rest


def test_unsupported_request_type_is_rejected() -> None:
    ((_, rejected),) = run_to_the_end(ScriptedModel(), Request(id="r", model="m"))
    assert isinstance(rejected, UnsupportedRequestError)


def test_output_must_end_with_finished() -> None:
    def silent() -> Iterator[Event]:
        yield Started(prompt_tokens=1)
        yield TextDelta("a")

    assert "without a Finished event" in error(run_to_the_end(ScriptedModel(silent=silent), ask("silent")))


def test_output_must_begin_with_started() -> None:
    def hasty() -> Iterator[Event | None]:
        yield None
        yield TextDelta("a")
        yield Finished()

    assert "TextDelta before Started" in error(run_to_the_end(ScriptedModel(hasty=hasty), ask("hasty")))


def test_only_events_may_be_yielded() -> None:
    def naive() -> Iterator[Any]:
        yield Started(prompt_tokens=1)
        yield "hello"

    assert "'hello', which is not an Event" in error(run_to_the_end(ScriptedModel(naive=naive), ask("naive")))


def test_empty_batch_of_events_yields_control() -> None:
    def quiet() -> Iterator[Event]:
        yield Started(prompt_tokens=1)
        yield EventBatch(())
        yield EventBatch((TextDelta("a"), Finished()))

    output = run_to_the_end(ScriptedModel(quiet=quiet), ask("quiet"))
    assert [event for _, event in output] == [Started(prompt_tokens=1), TextDelta("a"), Finished()]


def closing(closed: list[str], name: str) -> Iterator[Event]:
    try:
        yield Started(prompt_tokens=1)
        while True:
            yield TextDelta("a")
    finally:
        closed.append(name)


def test_cancelled_request_is_closed_and_yields_nothing_more() -> None:
    closed: list[str] = []
    running = loop.Loop(ScriptedModel(endless=lambda: closing(closed, "it"), fine=fine))
    running.submit(submit("endless", "one"))
    running.submit(submit("fine", "two"))
    running.step()
    running.cancel("one")
    assert closed == ["it"]
    assert [id for id, _ in running.step()] == ["two"]


def test_cancelling_an_unknown_or_finished_request_does_nothing() -> None:
    closed: list[str] = []
    running = loop.Loop(ScriptedModel(endless=lambda: closing(closed, "it")))
    running.submit(submit("endless"))
    running.cancel("r")
    running.cancel("r")
    running.cancel("unknown")
    assert running.idle
    assert not closed


def test_model_that_fails_while_it_is_closed_does_not_end_the_loop() -> None:
    def stubborn() -> Iterator[Event]:
        try:
            yield Started(prompt_tokens=1)
            yield TextDelta("a")
        finally:
            raise ZeroDivisionError

    running = loop.Loop(ScriptedModel(stubborn=stubborn, fine=fine))
    running.submit(submit("stubborn", "one"))
    running.step()
    running.cancel("one")
    running.submit(submit("fine", "two"))
    assert running.step() == [("two", Started(prompt_tokens=1))]


def test_run_processes_messages_and_closes_all_requests_at_the_end() -> None:
    closed: list[str] = []
    model = ScriptedModel(endless=lambda: closing(closed, "it"))
    inbox: loop.Inbox = SimpleQueue()
    sent: list[Any] = []

    def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            inbox.put(Cancel("one"))
        if isinstance(message, CancelAck):
            inbox.put(Shutdown())

    inbox.put(Submit.of(ask("endless", "one")))
    inbox.put(Submit.of(ask("endless", "two")))
    loop.run(model, inbox, send)
    assert [message for message in sent if not isinstance(message, StepOutput)] == [CancelAck("one")]
    assert closed == ["it", "it"]
    assert model.closed == 1


def test_model_that_waits_for_something_sends_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "HEARTBEAT_INTERVAL", 0.0)
    inbox: loop.Inbox = SimpleQueue()

    def waiting() -> Iterator[Event | None]:
        yield None
        yield None
        inbox.put(Shutdown())
        yield from fine()

    sent: list[StepOutput | CancelAck] = []
    inbox.put(Submit.of(ask("waiting")))
    loop.run(ScriptedModel(waiting=waiting), inbox, sent.append)
    assert sent[:3] == [StepOutput([]), StepOutput([]), StepOutput([("r", Started(prompt_tokens=1))])]


class RecordingInbox(SimpleQueue[Any]):
    """Records the timeout of each `get`; None is no timeout."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if block:
            self.timeouts.append(timeout)
        return super().get(block, timeout)


def test_waiting_model_is_polled_with_growing_pauses_and_a_busy_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    # Independent of the speed of this machine, only steps with events count as work.
    monkeypatch.setattr(loop, "MIN_WORK_TIME", 1e9)
    inbox = RecordingInbox()

    def waiting() -> Iterator[Event | None]:
        yield Started(prompt_tokens=1)
        yield from [None] * 10
        yield TextDelta("a")
        yield None
        yield from [TextDelta("b")] * 10
        inbox.put(Shutdown())
        yield Finished()

    inbox.put(submit("waiting"))
    loop.run(ScriptedModel(waiting=waiting), inbox, lambda message: None)
    pauses = [timeout for timeout in inbox.timeouts if timeout is not None]
    growing = [min(loop.MIN_WAIT * 2**turn, loop.MAX_WAIT) for turn in range(10)]
    assert pauses == [*growing, loop.MIN_WAIT]


def test_no_pause_after_a_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MIN_WORK_TIME", 0.0)
    inbox = RecordingInbox()

    def working() -> Iterator[Event | None]:
        yield Started(prompt_tokens=1)
        yield from [None] * 10
        inbox.put(Shutdown())
        yield Finished()

    inbox.put(submit("working"))
    loop.run(ScriptedModel(working=working), inbox, lambda message: None)
    assert [timeout for timeout in inbox.timeouts if timeout is not None] == []


def test_message_ends_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MIN_WORK_TIME", 1e9)
    monkeypatch.setattr(loop, "MIN_WAIT", 600.0)
    monkeypatch.setattr(loop, "MAX_WAIT", 600.0)
    inbox: loop.Inbox = SimpleQueue()
    polled = threading.Event()
    done = threading.Event()

    def waiting() -> Iterator[Event | None]:
        yield Started(prompt_tokens=1)
        polled.set()
        while True:
            yield None

    def send(message: StepOutput | CancelAck) -> None:
        if isinstance(message, CancelAck):
            inbox.put(Shutdown())

    def run() -> None:
        loop.run(ScriptedModel(waiting=waiting), inbox, send)
        done.set()

    inbox.put(submit("waiting"))
    threading.Thread(target=run, daemon=True).start()
    assert polled.wait(60)
    inbox.put(Cancel("r"))
    assert done.wait(60)


def test_protocol_violation_fails_the_request_and_names_the_backend() -> None:
    def broken() -> Iterator[Event]:
        yield Started(prompt_tokens=1)
        yield TextDelta("a", choice=7)
        raise AssertionError("it must not be advanced again")

    running = loop.Loop(ScriptedModel(broken=broken, fine=fine), "trial")
    running.submit(submit("broken", "bad"))
    running.submit(submit("fine", "good"))
    output: Output = []
    while not running.idle:
        output += running.step()
    message = error([each for each in output if each[0] == "bad"])
    assert all(fact in message for fact in ("'trial'", "TextDelta", "choice 7"))
    assert [event for id, event in output if id == "good"] == [*fine()]


def test_stop_strings_do_not_hide_a_protocol_violation() -> None:
    def broken() -> Iterator[Event]:
        yield Started(prompt_tokens=1)
        yield TextDelta("a", choice=1)
        yield Finished()

    assert "TextDelta has choice 1" in error(run_to_the_end(ScriptedModel(broken=broken), ask("broken", stop=("x",))))
