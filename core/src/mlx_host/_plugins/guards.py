"""Wraps the hook implementations that run for every request, to log the name of a failing or slow plugin.

A guard keeps the signature and the marker of the implementation (`functools.wraps`), and is a generator function if the
implementation is one. pluggy therefore orders and calls it as it would the implementation.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import pluggy

from mlx_host._plugins.registry import PluginInfo
from mlx_host.errors import PluginError, PluginFailedError, RequestError
from mlx_host.requests import Request

log = logging.getLogger(__name__)

# Implementations that block the event loop for longer are logged: they block all streams.
MAX_SECONDS = 0.05

FAILED = "A plugin failed on this request; the server's log has the details."

Function = Callable[..., Any]
Clock = Callable[[], float]


def guarded(manager: pluggy.PluginManager, plugin: object, info: PluginInfo) -> object:
    """Return an object with the plugin's hook implementations, named after their hooks and wrapped in guards.

    Raises PluginError if an implementation is invalid.
    """
    proxy = _PluginProxy()
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            continue
        hook = options.get("specname") or name
        if hasattr(proxy, hook):
            raise PluginError(f"implements {hook} twice")
        if options.get("hookwrapper"):
            raise PluginError(f"{hook} is an old-style wrapper; use @hookimpl(wrapper=True)")
        if options.get("wrapper") and hook.startswith("register_"):
            raise PluginError(f"{hook} cannot be a wrapper: its results belong to the plugin that returns them")
        function = getattr(plugin, name)
        guard = GUARDS.get(hook)
        setattr(proxy, hook, guard(function, info) if guard is not None else function)
    return proxy


class _PluginProxy:
    """A plugin's hook implementations, each under the name of its hook."""


def guard_request_finished(function: Function, info: PluginInfo, clock: Clock = time.perf_counter) -> Function:
    """Log exceptions of the implementation, so that the other plugins are still called."""

    def failed() -> None:
        log.exception("plugin %r of %s: request_finished failed", info.name, info)

    if not inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def guard(*args: Any) -> None:
            watch = _Stopwatch("request_finished", info, clock)
            try:
                function(*args)
            except Exception:  # noqa: BLE001  one plugin's bug must not affect the others
                failed()
            watch.stop()

        return guard

    @functools.wraps(function)
    def wrapper(*args: Any) -> Generator[None, Any, Any]:
        watch = _Stopwatch("request_finished", info, clock)
        wrapped = function(*args)
        try:
            next(wrapped)
        except Exception:  # noqa: BLE001  as above
            failed()
            return (yield)
        watch.pause()
        result = yield
        watch.resume()
        try:
            wrapped.send(result)
        except StopIteration as stop:
            return stop.value
        except Exception:  # noqa: BLE001  as above
            failed()
        else:
            wrapped.close()
            log.error("plugin %r of %s: request_finished yields more than once", info.name, info)
        finally:
            watch.stop()
        return result

    return wrapper


def guard_prepare_request(function: Function, info: PluginInfo, clock: Clock = time.perf_counter) -> Function:
    """Fail the request, and log the name of the plugin, if the implementation violates the contract.

    An implementation may raise RequestError; it must return a request of the same type, with the same id and model.
    """
    if inspect.isgeneratorfunction(function):
        return _guard_preparing_wrapper(function, info, clock)
    parameters = list(inspect.signature(function).parameters)
    if "request" not in parameters:
        raise PluginError("prepare_request must take the argument 'request' unless it is a wrapper")
    position = parameters.index("request")

    @functools.wraps(function)
    def guard(*args: Any) -> Any:
        watch = _Stopwatch("prepare_request", info, clock)
        try:
            with _failures_logged(info):
                result = function(*args)
        finally:
            watch.stop()
        return _checked(info, result, args[position])

    return guard


def _guard_preparing_wrapper(function: Function, info: PluginInfo, clock: Clock) -> Function:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Generator[None, Any, Any]:
        watch = _Stopwatch("prepare_request", info, clock)
        wrapped = function(*args)
        with _failures_logged(info):
            try:
                next(wrapped)
            except StopIteration:
                raise _violation(info, "is a wrapper that does not yield") from None
        watch.pause()
        inner, rejection = None, None
        try:
            inner = yield
        except RequestError as error:
            rejection = error
        watch.resume()
        try:
            with _failures_logged(info):
                return _resumed(info, wrapped, inner, rejection)
        finally:
            watch.stop()

    return wrapper


def _resumed(info: PluginInfo, wrapped: Generator[None, Any, Any], inner: Any, rejection: RequestError | None) -> Any:
    """Pass a wrapper what the other implementations returned or raised, and return its request."""
    try:
        if rejection is None:
            wrapped.send(inner)
        else:
            wrapped.throw(rejection)
    except StopIteration as stop:
        if rejection is not None:
            raise _violation(info, "returned a request that had been rejected") from None
        return _checked(info, stop.value, inner)
    wrapped.close()
    raise _violation(info, "is a wrapper that yields more than once")


def _checked(info: PluginInfo, result: Any, original: Request) -> Any:
    """Return the request that an implementation returned; PluginFailedError if it violates the contract."""
    if type(result) is not type(original):
        raise _violation(info, f"returned {type(result).__name__}, not {type(original).__name__}")
    for attribute in ("id", "model"):
        before, after = getattr(original, attribute), getattr(result, attribute)
        if before != after:
            raise _violation(info, f"changed {attribute!r} of the request from {before!r} to {after!r}")
    return result


def _violation(info: PluginInfo, reason: str) -> PluginFailedError:
    log.error("plugin %r of %s: prepare_request %s", info.name, info, reason)
    return PluginFailedError(FAILED)


@contextlib.contextmanager
def _failures_logged(info: PluginInfo) -> Iterator[None]:
    """Log exceptions of an implementation, except RequestError, and raise PluginFailedError instead."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        log.error("plugin %r of %s: prepare_request failed", info.name, info, exc_info=error)
        raise PluginFailedError(FAILED) from error


class _Stopwatch:
    """Measures the running time of an implementation, and logs it if it exceeds MAX_SECONDS."""

    def __init__(self, hook: str, info: PluginInfo, clock: Clock) -> None:
        self._hook = hook
        self._info = info
        self._clock = clock
        self._elapsed = 0.0
        self._started = clock()

    def pause(self) -> None:
        self._elapsed += self._clock() - self._started

    def resume(self) -> None:
        self._started = self._clock()

    def stop(self) -> None:
        self.pause()
        if self._elapsed > MAX_SECONDS:
            log.warning(
                "plugin %r of %s: %s took %.0f ms and blocked all streams",
                self._info.name,
                self._info,
                self._hook,
                self._elapsed * 1000,
            )


GUARDS: Mapping[str, Callable[[Function, PluginInfo], Function]] = {
    "request_finished": guard_request_finished,
    "prepare_request": guard_prepare_request,
}
