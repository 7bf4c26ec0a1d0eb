"""Request hooks: ordering and wrappers as in pluggy; failing and slow plugins are named in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from mlx_host import __version__, hookimpl
from mlx_host._host import builtin_hooks
from mlx_host._plugins.guards import guard_prepare_request, guard_request_finished
from mlx_host._plugins.manager import Plugins
from mlx_host._plugins.registry import PluginInfo
from mlx_host.api import ModelState, ModelStatus, RequestRecord
from mlx_host.errors import InvalidRequestError, PluginFailedError
from mlx_host.requests import ChatRequest, CompletionRequest, Request

REQUEST = ChatRequest(id="r", model="m", messages=({"role": "user", "content": "hi"},))
MODEL = ModelStatus("m", ModelState.READY)
RECORD = RequestRecord("r", "m", "chat", "stop", 0, 0, None, 1, 1, 0, 1)
INFO = PluginInfo("slow", "mlx-host-slow", "2.0")


def plugins(**hooks: dict[str, Callable[..., Any]]) -> Plugins:
    """A plugin manager with core's hooks and then these plugins."""
    objects = {name: SimpleNamespace(**implementations) for name, implementations in hooks.items()}
    loaded = Plugins({"requests": builtin_hooks, **objects}, installed=[])
    assert loaded.problems() == []
    return loaded


def prepare(loaded: Plugins) -> Request:
    prepared: Request = loaded.hook.prepare_request(request=REQUEST, model=MODEL)
    return prepared


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# request_finished


def test_request_finished_respects_order_and_wrappers() -> None:
    calls: list[str] = []

    def plain(name: str, **options: Any) -> dict[str, Any]:
        @hookimpl(**options)  # type: ignore[untyped-decorator]
        def request_finished(record: RequestRecord) -> None:
            calls.append(name)

        return {"request_finished": request_finished}

    @hookimpl(wrapper=True)
    def request_finished(record: RequestRecord) -> Iterator[None]:
        calls.append("before")
        result = yield
        calls.append("after")
        return result

    loaded = plugins(
        last=plain("last", trylast=True),
        middle=plain("middle"),
        first=plain("first", tryfirst=True),
        wrapper={"request_finished": request_finished},
    )
    loaded.request_finished(RECORD)
    assert calls == ["before", "first", "middle", "last", "after"]


def test_a_failing_request_finished_is_logged_and_does_not_stop_others(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    @hookimpl(tryfirst=True)
    def broken(record: RequestRecord) -> None:
        raise KeyError("lost")

    @hookimpl(wrapper=True)
    def broken_before(record: RequestRecord) -> Iterator[None]:
        raise KeyError("lost before")
        yield

    @hookimpl(wrapper=True)
    def broken_after(record: RequestRecord) -> Iterator[None]:
        yield
        raise KeyError("lost after")

    @hookimpl(wrapper=True)
    def twice(record: RequestRecord) -> Iterator[None]:
        yield
        yield

    @hookimpl(trylast=True)
    def fine(record: RequestRecord) -> None:
        calls.append(record.id)

    hooks = {"broken": broken, "before": broken_before, "after": broken_after, "twice": twice, "fine": fine}
    loaded = plugins(**{name: {"request_finished": hook} for name, hook in hooks.items()})
    loaded.request_finished(RECORD)
    assert calls == ["r"]
    version = f"of mlx-host {__version__}: request_finished"
    assert sorted(failures(caplog)) == [
        f"plugin 'after' {version} failed",
        f"plugin 'before' {version} failed",
        f"plugin 'broken' {version} failed",
        f"plugin 'twice' {version} yields more than once",
    ]


def test_methods_and_specnames_are_supported() -> None:
    class Counter:
        count = 0

        @hookimpl(specname="request_finished")
        def add(self) -> None:
            self.count += 1

    counter = Counter()
    Plugins({"counter": counter}, installed=[]).request_finished(RECORD)
    assert counter.count == 1


# prepare_request


def test_prepare_request_respects_order_and_wrappers() -> None:
    def limit(tokens: int, **options: Any) -> dict[str, Any]:
        @hookimpl(wrapper=True, **options)  # type: ignore[untyped-decorator]
        def prepare_request(request: ChatRequest, model: ModelStatus) -> Generator[None, ChatRequest, ChatRequest]:
            prepared = yield
            return replace(prepared, max_tokens=(prepared.max_tokens or 0) * 10 + tokens)

        return {"prepare_request": prepare_request}

    loaded = plugins(outer=limit(1, tryfirst=True), inner=limit(3, trylast=True), middle=limit(2))
    prepared = prepare(loaded)
    assert isinstance(prepared, ChatRequest)
    assert prepared.max_tokens == 321


def test_a_plugin_may_reject_a_request(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    @hookimpl
    def reject(request: Request) -> Request:
        raise InvalidRequestError("not today", param="messages")

    @hookimpl(wrapper=True)
    def pass_on(request: Request) -> Generator[None, Request, Request]:
        try:
            return (yield)
        finally:
            seen.append(request.id)

    loaded = plugins(rejecting={"prepare_request": reject}, passing={"prepare_request": pass_on})
    with pytest.raises(InvalidRequestError, match="not today"):
        prepare(loaded)
    assert seen == ["r"]
    assert failures(caplog) == []


def returning(result: Any) -> Callable[..., Any]:
    @hookimpl(wrapper=True)
    def prepare_request(request: Request) -> Generator[None, Request, Any]:
        yield
        return result

    return prepare_request


def plainly_returning(result: Any) -> Callable[..., Any]:
    @hookimpl
    def prepare_request(request: Request) -> Any:
        return result

    return prepare_request


@hookimpl
def raising(request: Request) -> Request:
    raise KeyError("lost")


@hookimpl(wrapper=True)
def raising_before(request: Request) -> Iterator[None]:
    raise KeyError("lost")
    yield


@hookimpl(wrapper=True)
def raising_after(request: Request) -> Iterator[None]:
    yield
    raise KeyError("lost")


@hookimpl(wrapper=True)
def never_yielding(request: Request) -> Iterator[None]:
    yield from ()
    return None


@hookimpl(wrapper=True)
def yielding_twice(request: Request) -> Iterator[None]:
    yield
    yield


COMPLETION = CompletionRequest(id="r", model="m", prompt="hi")


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (raising, "failed"),
        (raising_before, "failed"),
        (raising_after, "failed"),
        (never_yielding, "is a wrapper that does not yield"),
        (yielding_twice, "is a wrapper that yields more than once"),
        (returning(None), "returned NoneType, not ChatRequest"),
        (plainly_returning(None), "returned NoneType, not ChatRequest"),
        (returning({"messages": []}), "returned dict, not ChatRequest"),
        (returning(COMPLETION), "returned CompletionRequest, not ChatRequest"),
        (plainly_returning(COMPLETION), "returned CompletionRequest, not ChatRequest"),
        (returning(replace(REQUEST, id="other")), "changed 'id' of the request from 'r' to 'other'"),
        (returning(replace(REQUEST, model="other")), "changed 'model' of the request from 'm' to 'other'"),
        (plainly_returning(replace(REQUEST, model="n")), "changed 'model' of the request from 'm' to 'n'"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_prepare_request_that_violates_the_contract_is_named(
    caplog: pytest.LogCaptureFixture, hook: Callable[..., Any], reason: str, wrapped: bool
) -> None:
    """Also inside a wrapper of a working plugin: the log names the faulty one, once."""
    innocent = {"innocent": {"prepare_request": guardless()}} if wrapped else {}
    loaded = plugins(guilty={"prepare_request": hook}, **innocent)
    with pytest.raises(PluginFailedError, match="plugin failed") as failure:
        prepare(loaded)
    assert failure.value.status == 500
    assert failures(caplog) == [f"plugin 'guilty' of mlx-host {__version__}: prepare_request {reason}"]


def guardless() -> Callable[..., Any]:
    @hookimpl(wrapper=True, tryfirst=True)
    def prepare_request(request: Request) -> Generator[None, Request, Request]:
        return (yield)

    return prepare_request


def test_a_wrapper_cannot_suppress_a_rejection(caplog: pytest.LogCaptureFixture) -> None:
    @hookimpl
    def reject(request: Request) -> Request:
        raise InvalidRequestError("not today")

    @hookimpl(wrapper=True)
    def swallow(request: Request) -> Generator[None, Request, Request]:
        try:
            return (yield)
        except InvalidRequestError:
            return request

    loaded = plugins(rejecting={"prepare_request": reject}, swallowing={"prepare_request": swallow})
    with pytest.raises(PluginFailedError):
        prepare(loaded)
    assert failures(caplog) == [
        f"plugin 'swallowing' of mlx-host {__version__}: prepare_request returned a request that had been rejected"
    ]


def test_a_prepare_request_without_the_request_is_rejected_at_registration() -> None:
    @hookimpl
    def prepare_request(model: ModelStatus) -> Request:
        return REQUEST

    loaded = Plugins({"blind": SimpleNamespace(prepare_request=prepare_request)}, installed=[])
    (failed,) = loaded.failed
    assert "must take the argument 'request'" in failed.reason


# Slow hooks


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


def drive(wrapper: Iterator[Any], clock: Clock, inner: float, result: Any) -> None:
    """Run a wrapper like pluggy, around an implementation that takes `inner` seconds."""
    next(wrapper)
    clock.work(inner)
    with pytest.raises(StopIteration):
        wrapper.send(result)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("seconds", "named"), [(0.04, False), (0.06, True)])
def test_a_slow_hook_is_named(caplog: pytest.LogCaptureFixture, seconds: float, named: bool) -> None:
    clock = Clock()

    def plain(request: Any) -> Any:
        clock.work(seconds)
        return request

    guard_prepare_request(plain, INFO, clock)(REQUEST)
    guard_request_finished(plain, INFO, clock)(RECORD)
    expected = [
        f"plugin 'slow' of mlx-host-slow 2.0: {hook} took 60 ms and blocked all streams"
        for hook in ("prepare_request", "request_finished")
    ]
    assert [record.getMessage() for record in caplog.records] == (expected if named else [])


@pytest.mark.parametrize(("before", "after", "named"), [(0.02, 0.02, False), (0.03, 0.03, True)])
def test_a_wrapper_is_slow_by_its_own_time(
    caplog: pytest.LogCaptureFixture, before: float, after: float, named: bool
) -> None:
    clock = Clock()

    def wrapper(request: Any) -> Iterator[Any]:
        clock.work(before)
        result = yield
        clock.work(after)
        return result

    drive(guard_prepare_request(wrapper, INFO, clock)(REQUEST), clock, 5, REQUEST)
    drive(guard_request_finished(wrapper, INFO, clock)(RECORD), clock, 5, [])
    assert len(caplog.records) == (2 if named else 0)
