"""Wraps the hook implementations that run for every request, so that a failing or slow plugin is named.

A guard has the signature of the implementation and its marker (`functools.wraps`), and is a generator function if that
is one, so that pluggy treats it alike: ordering and wrappers work as in any pluggy project.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pluggy

from mlx_host._plugins.registry import PluginInfo
from mlx_host.errors import PluginError, PluginFailedError, RequestError
from mlx_host.requests import Request

log = logging.getLogger(__name__)

# A hook that runs on the event loop for longer than this is logged: every stream waits for it.
MAX_SECONDS = 0.05

FAILED = "A plugin failed on this request; the server's log has the details."

Function = Callable[..., Any]
Clock = Callable[[], float]


def guarded(manager: pluggy.PluginManager, plugin: object, info: PluginInfo) -> object:
    """Return a stand-in for a plugin that holds its hook implementations by hook, with their guards.

    PluginError if an implementation cannot be used.
    """
    stand_in = _StandIn()
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            continue
        hook = options.get("specname") or name
        if hasattr(stand_in, hook):
            raise PluginError(f"implements {hook} twice")
        if options.get("hookwrapper"):
            raise PluginError(f"{hook} is an old-style wrapper; use @hookimpl(wrapper=True)")
        if options.get("wrapper") and hook.startswith("register_"):
            raise PluginError(f"{hook} cannot be a wrapper: its results belong to the plugin that returns them")
        function = getattr(plugin, name)
        guard = GUARDS.get(hook)
        setattr(stand_in, hook, guard(function, info) if guard is not None else function)
    return stand_in


class _StandIn:
    """A plugin's hook implementations, each under the name of its hook."""


def guard_request_finished(function: Function, info: PluginInfo, clock: Clock = time.perf_counter) -> Function:
    """Log an exception of the implementation, and go on with the other plugins."""

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
        except Exception:  # noqa: BLE001
            failed()
            return (yield)
        watch.pause()
        result = yield
        watch.resume()
        try:
            wrapped.send(result)
        except StopIteration as stop:
            return stop.value
        except Exception:  # noqa: BLE001
            failed()
        else:
            wrapped.close()
            log.error("plugin %r of %s: request_finished yields more than once", info.name, info)
        finally:
            watch.stop()
        return result

    return wrapper


def guard_prepare_request(function: Function, info: PluginInfo, clock: Clock = time.perf_counter) -> Function:
    """Fail the request, and name the plugin in the log, if the implementation breaks the contract.

    It may raise RequestError; it must return a request of the same type, id and model.
    """

    def fail(reason: str) -> PluginFailedError:
        log.error("plugin %r of %s: prepare_request %s", info.name, info, reason)
        return PluginFailedError(FAILED)

    def crash(error: Exception) -> PluginFailedError:
        log.error("plugin %r of %s: prepare_request failed", info.name, info, exc_info=error)
        return PluginFailedError(FAILED)

    def check(result: Any, original: Request) -> Any:
        if type(result) is not type(original):
            raise fail(f"returned {type(result).__name__}, not {type(original).__name__}")
        for attribute in ("id", "model"):
            before, after = getattr(original, attribute), getattr(result, attribute)
            if before != after:
                raise fail(f"changed {attribute!r} of the request from {before!r} to {after!r}")
        return result

    if not inspect.isgeneratorfunction(function):
        parameters = list(inspect.signature(function).parameters)
        if "request" not in parameters:
            raise PluginError("prepare_request must take the argument 'request' unless it is a wrapper")
        position = parameters.index("request")

        @functools.wraps(function)
        def guard(*args: Any) -> Any:
            watch = _Stopwatch("prepare_request", info, clock)
            try:
                result = function(*args)
            except RequestError:
                raise
            except Exception as error:
                raise crash(error) from error
            finally:
                watch.stop()
            return check(result, args[position])

        return guard

    @functools.wraps(function)
    def wrapper(*args: Any) -> Generator[None, Any, Any]:
        watch = _Stopwatch("prepare_request", info, clock)
        wrapped = function(*args)
        try:
            next(wrapped)
        except RequestError:
            raise
        except StopIteration:
            raise fail("is a wrapper that does not yield") from None
        except Exception as error:
            raise crash(error) from error
        watch.pause()
        rejection: RequestError | None = None
        inner: Any = None
        try:
            inner = yield
        except RequestError as error:
            rejection = error
        watch.resume()
        try:
            if rejection is None:
                wrapped.send(inner)
            else:
                wrapped.throw(rejection)
        except StopIteration as stop:
            if rejection is not None:
                raise fail("returned a request that had been rejected") from None
            return check(stop.value, inner)
        except RequestError:
            raise
        except Exception as error:
            raise crash(error) from error
        finally:
            watch.stop()
        wrapped.close()
        raise fail("is a wrapper that yields more than once")

    return wrapper


class _Stopwatch:
    """Measures how long an implementation itself runs, and logs it if that is too long."""

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
                "plugin %r of %s: %s took %.0f ms; every stream waited for it",
                self._info.name,
                self._info,
                self._hook,
                self._elapsed * 1000,
            )


GUARDS: Mapping[str, Callable[[Function, PluginInfo], Function]] = {
    "request_finished": guard_request_finished,
    "prepare_request": guard_prepare_request,
}
