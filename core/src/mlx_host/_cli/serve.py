"""Brings the server up, keeps it up and takes it down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlx_host import _logs
from mlx_host._cli.progress import LoadingDisplay
from mlx_host._host.parser_selection import Parsers
from mlx_host._host.served_model import Limits
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import Configured, HostSettings, option_values
from mlx_host.errors import LoadError, MlxHostError

if TYPE_CHECKING:
    from mlx_host._host import Host
    from mlx_host._http import server

log = logging.getLogger("mlx_host")

# How long a model's process has to close its model, once its requests are done.
CLOSING_SECONDS = 5.0
# How long clients have to read what the last requests said.
GOODBYE_SECONDS = 2.0


def serve(plugins: Plugins, settings: HostSettings, models: Sequence[tuple[Configured, Parsers]]) -> None:
    """Serve until a signal; LoadError if a model cannot be loaded."""
    import uvloop

    from mlx_host._http import server

    listening = server.bind(settings.host, settings.port)
    try:
        _logs.set_up(settings.log_level, None if settings.no_log_file else settings.log_file)
        for broken in plugins.broken:
            log.warning("plugin %s of %s is set aside: %s", broken.origin.name, broken.origin, broken.reason)
        log.info("listening at %s", server.url(listening))
        uvloop.run(_serve(plugins, settings, models, listening))
    finally:
        listening.close()


async def _serve(
    plugins: Plugins, settings: HostSettings, models: Sequence[tuple[Configured, Parsers]], listening: socket.socket
) -> None:
    from mlx_host._engine import Launch
    from mlx_host._engine.worker import ProcessWorker
    from mlx_host._host import Host, ServedModel
    from mlx_host._http import server
    from mlx_host._http.app import make_app, mount

    display = LoadingDisplay()

    def served(model: Configured, parsers: Parsers) -> ServedModel:
        own = model.settings
        launch = Launch(own.backend, own.model, option_values(model.options), settings.log_level)
        limits = Limits(own.max_concurrency, own.queue_size, own.queue_timeout, own.stall_timeout)
        return ServedModel(
            own.name,
            lambda: ProcessWorker(launch, own.env),
            limits,
            parsers,
            plugins.parsers.found.values(),
            display.for_model(own.name),
        )

    host = Host(plugins, [served(model, parsers) for model, parsers in models], settings.keep_alive)
    apis = [mount(api, str(plugin), host, api.settings()) for api, plugin in plugins.apis()]
    http = server.Server(make_app(apis, settings.max_body_mb))
    async with contextlib.AsyncExitStack() as lifespans:
        for api in apis:
            await lifespans.enter_async_context(api.endpoints.lifespan())
        await _run(host, http, settings, listening, display)


async def _run(
    host: Host, http: server.Server, settings: HostSettings, listening: socket.socket, display: LoadingDisplay
) -> None:
    from mlx_host._http import server

    stop = Stop(host, http)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Who starts us with nohup wants us to outlive the terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stop.ask)
    host.start()
    serving = asyncio.create_task(http.serve(sockets=[listening]))
    serving.add_done_callback(lambda _: stop.begin())
    try:
        if await _loaded(host, stop, display):
            log.info(
                "ready: %s at %s/v1", ", ".join(sorted(model.name for model in host.models())), server.url(listening)
            )
            await stop.begun.wait()
    except LoadError:
        await stop.end(serving)
        raise
    await stop.finish(serving, settings.shutdown_timeout)


class Stop:
    """How the server ends: it stops listening, lets requests finish for a while, then cuts them off."""

    def __init__(self, host: Host, http: server.Server) -> None:
        self.begun = asyncio.Event()
        self._hurry = asyncio.Event()
        self._host = host
        self._http = http

    def ask(self) -> None:
        """Begin to stop; the second time means at once."""
        if self.begun.is_set():
            self._hurry.set()
        self.begin()

    def begin(self) -> None:
        self._host.stopping = True
        self._http.should_exit = True
        self.begun.set()

    async def finish(self, serving: asyncio.Task[None], patience: float) -> None:
        """Let requests finish, for `patience` seconds at most, then end."""
        self.begin()
        log.info("stopping; open requests have %g s to finish, a second signal cuts them off", patience)
        hurry = asyncio.create_task(self._hurry.wait())
        done, _ = await asyncio.wait((serving, hurry), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not done:
            log.warning("requests are still open after %g s; they are cut off", patience)
        await self.end(serving)

    async def end(self, serving: asyncio.Task[None]) -> None:
        """End the models, with their requests, and the server."""
        self.begin()
        await self._host.stop(CLOSING_SECONDS)
        await asyncio.wait((serving,), timeout=GOODBYE_SECONDS)
        self._http.force_exit = True
        await serving


async def _loaded(host: Host, stop: Stop, display: LoadingDisplay) -> bool:
    """Wait until every model is loaded; the first LoadError if one cannot be, False if a stop was asked for."""

    loading = asyncio.create_task(host.loaded())
    begun = asyncio.create_task(stop.begun.wait())
    with display:
        await asyncio.wait((loading, begun), return_when=asyncio.FIRST_COMPLETED)
    begun.cancel()
    if not loading.done():
        loading.cancel()
        return False
    try:
        await loading
    except LoadError:
        raise
    except MlxHostError as error:
        raise LoadError(str(error)) from error
    return True
