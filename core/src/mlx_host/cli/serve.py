"""Brings the server up, keeps it up and takes it down."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlx_host import logs
from mlx_host.cli.loading import LoadingDisplay
from mlx_host.errors import LoadError, MlxHostError
from mlx_host.host.served import Limits, Parsers
from mlx_host.plugins import Plugins
from mlx_host.settings import Configured, HostSettings, option_values

if TYPE_CHECKING:
    from mlx_host.api import server
    from mlx_host.host import Host

log = logging.getLogger("mlx_host")

# How long a model's process has to close its model, once its requests are done.
CLOSING_SECONDS = 5.0


def serve(plugins: Plugins, settings: HostSettings, models: Sequence[tuple[Configured, Parsers]]) -> None:
    """Serve until a signal; LoadError if a model cannot be loaded."""
    import uvloop

    from mlx_host.api import server

    listening = server.bind(settings.host, settings.port)
    try:
        logs.set_up(settings.log_level, None if settings.no_log_file else settings.log_file)
        for broken in plugins.broken:
            log.warning("plugin %s of %s is set aside: %s", broken.origin.name, broken.origin, broken.reason)
        uvloop.run(_serve(plugins, settings, models, listening))
    finally:
        listening.close()


async def _serve(
    plugins: Plugins, settings: HostSettings, models: Sequence[tuple[Configured, Parsers]], listening: socket.socket
) -> None:
    from mlx_host.api import server
    from mlx_host.api.app import make_app
    from mlx_host.engine import Launch
    from mlx_host.engine.worker import ProcessWorker
    from mlx_host.host import Host, ServedModel

    display = LoadingDisplay()

    def served(model: Configured, parsers: Parsers) -> ServedModel:
        own = model.settings
        launch = Launch(own.backend, own.model, option_values(model.options), settings.log_level)
        limits = Limits(own.max_concurrency, own.queue_size, own.queue_timeout)
        return ServedModel(
            own.name, lambda: ProcessWorker(launch, own.env), limits, parsers, display.for_model(own.name)
        )

    host = Host(plugins, [served(model, parsers) for model, parsers in models])
    http = server.Server(make_app(host))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _leave, http)
    host.start()
    serving = asyncio.create_task(http.serve(sockets=[listening]))
    failure = await _until_loaded(host, serving, display)
    if failure is not None:
        http.should_exit = True
    elif not serving.done():
        log.info("ready: %s at %s/v1", ", ".join(sorted(host.models)), server.url(listening))
    await serving
    await host.stop(CLOSING_SECONDS)
    if failure is not None:
        raise failure


def _leave(http: server.Server) -> None:
    if http.should_exit:
        http.force_exit = True  # The second signal means it.
    http.should_exit = True


async def _until_loaded(host: Host, serving: asyncio.Task[None], display: LoadingDisplay) -> LoadError | None:
    async def all_loaded() -> None:
        for model in host.models.values():
            await model.loaded()

    loading = asyncio.create_task(all_loaded())
    with display:
        await asyncio.wait((loading, serving), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        loading.cancel()
        return None
    error = loading.exception()
    if isinstance(error, MlxHostError):
        return error if isinstance(error, LoadError) else LoadError(str(error))
    if error is not None:
        raise error
    return None
