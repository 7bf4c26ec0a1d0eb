"""Starts, runs and shuts down the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from click.exceptions import Exit
from rich.text import Text

from mlx_host import _logs
from mlx_host._cli.next_steps import next_steps
from mlx_host._cli.progress import LoadingDisplay
from mlx_host._host.catalog import Catalog, ModelSpec
from mlx_host._plugins.manager import OWN, Plugins
from mlx_host._settings import Settings, api_names, flag_name
from mlx_host.api import ModelState
from mlx_host.errors import LoadError, UsageError

if TYPE_CHECKING:
    from mlx_host._host import Host
    from mlx_host._http import server
    from mlx_host._http.app import MountedApi

log = logging.getLogger("mlx_host")

# Maximum time that a model's process may take to close the model, in seconds.
CLOSE_TIMEOUT = 5.0
# Maximum time that clients may take to receive the last responses, in seconds.
FLUSH_TIMEOUT = 2.0


def serve(plugins: Plugins, settings: Settings, catalog: Catalog) -> None:
    """Serve until a signal; exits with code 1 if a required model cannot be loaded, which is in the log."""
    import uvloop

    from mlx_host._http import server

    host = settings.host
    with contextlib.ExitStack() as sockets:
        listening = [sockets.enter_context(server.bind(host.host, host.port))]
        ports: dict[int, list[str]] = {}
        for name, port in _own_ports(settings):
            if port not in ports:
                flag = flag_name(api_names(name, type(settings.apis[name])).name("port"))
                listening.append(sockets.enter_context(server.bind(host.host, port, flag)))
                port = listening[-1].getsockname()[1]
            ports.setdefault(port, []).append(name)
        _logs.configure_logging(host.log_level, None if host.no_log_file else host.log_file, host.log_format)
        for problem in plugins.problems():
            log.warning("%s", problem)
        try:
            uvloop.run(_serve(plugins, settings, catalog, listening, ports))
        except LoadError as error:
            if not log.isEnabledFor(logging.ERROR):
                raise
            # The log already has the error of each model.
            raise Exit(1) from error


def _own_ports(settings: Settings) -> list[tuple[str, int]]:
    """Return the APIs that are also served on a separate port, with the port."""
    return [(name, values.port) for name, values in settings.apis.items() if values.port is not None]


async def _serve(
    plugins: Plugins,
    settings: Settings,
    catalog: Catalog,
    listening: Sequence[socket.socket],
    ports: Mapping[int, Collection[str]],
) -> None:
    from mlx_host._engine import WorkerConfig
    from mlx_host._engine.worker import ProcessWorker
    from mlx_host._host import Host, ModelPool, ServedModel
    from mlx_host._http import server
    from mlx_host._http.app import make_app

    display = LoadingDisplay()

    def create(spec: ModelSpec) -> ServedModel:
        config = WorkerConfig(spec.backend, spec.model, dict(spec.options), settings.host.log_level)
        return ServedModel(
            spec.name,
            lambda: ProcessWorker(config, spec.env),
            spec.limits,
            spec.parsers,
            plugins.parsers.found.values(),
            backend=spec.backend,
            on_progress=display.for_model(spec.name),
        )

    host = Host(plugins, ModelPool(create, catalog), settings.host.keep_alive)
    apis = mount_apis(plugins, settings, host)
    disabled = {
        name: plugins.apis.found[name].prefixes for name in settings.host.disable_api if name in plugins.apis.found
    }
    app = make_app(apis, settings.host.max_body_mb, ports, disabled)
    http = server.Server(app, max_frame_bytes=int(settings.host.max_body_mb * 1_000_000))
    # After the checks of the APIs, so that no server is announced that does not start.
    log.info("listening at %s", server.url(listening[0]))
    for socket_ in listening[1:]:
        log.info("also serving %s at %s", ", ".join(ports[socket_.getsockname()[1]]), server.url(socket_))
    async with contextlib.AsyncExitStack() as lifespans:
        for api in apis:
            await lifespans.enter_async_context(api.endpoints.lifespan())
        await _run(host, http, settings, listening, display)


def mount_apis(plugins: Plugins, settings: Settings, host: Host) -> list[MountedApi]:
    """Create the endpoints of the enabled APIs; a plugin whose API fails is skipped.

    Raises UsageError if a setting is invalid, if a plugin fails and --strict-plugins is set, or if a model's backend
    belongs to a skipped plugin.
    """
    from mlx_host._http.app import mount

    mounted = {}
    for name, values in settings.apis.items():
        info = plugins.apis.owners.get(name)
        if info is None:
            # The plugin was skipped because another of its APIs failed.
            continue
        try:
            mounted[name] = mount(plugins.apis.found[name], str(info), host, values)
        except UsageError:
            raise
        except Exception as error:
            if info.distribution == OWN:
                raise
            plugins.skip(info, f"API {name!r} failed: {type(error).__name__}: {error}")
            if settings.host.strict_plugins:
                raise UsageError(f"--strict-plugins: {plugins.failed[-1]}.") from error
            log.warning("skipped: %s", plugins.failed[-1], exc_info=error)
    for config in settings.models:
        plugins.backend(config.settings.backend)
    return [api for name, api in mounted.items() if name in plugins.apis.found]


async def _run(
    host: Host, http: server.Server, settings: Settings, listening: Sequence[socket.socket], display: LoadingDisplay
) -> None:
    from mlx_host._http import server

    stop = Stop(host, http)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup ignores SIGHUP, so that the server outlives the terminal.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stop.request)
    host.start()
    serving = asyncio.create_task(http.serve(sockets=list(listening)))
    serving.add_done_callback(lambda _: stop.begin())
    try:
        if await _loaded(host, stop, display, strict=settings.host.strict):
            ready = sorted(model.name for model in host.models() if model.state is ModelState.READY)
            url = server.url(listening[0])
            log.info("ready: %s at %s/v1", ", ".join(ready), url)
            if (terminal := _logs.terminal()) is not None:
                for line in next_steps(url, host.models(), settings.apis):
                    # Not wrapped, so that it can be copied.
                    terminal.print(Text(line), soft_wrap=True)
            await stop.begun.wait()
    except LoadError:
        await stop.end(serving)
        raise
    await stop.finish(serving, settings.host.shutdown_timeout)


class Stop:
    """Shuts the server down.

    state     event                        next      action
    serving   signal, or server ended      draining  stop listening; reject new requests
    draining  all work is done             ended     stop the models and the server
    draining  second signal, or timeout    ended     the same; running requests fail
    """

    def __init__(self, host: Host, http: server.Server) -> None:
        self.begun = asyncio.Event()
        self._second = asyncio.Event()
        self._host = host
        self._http = http

    def request(self) -> None:
        """Start draining; a second call ends the running requests."""
        if self.begun.is_set():
            self._second.set()
        self.begin()

    def begin(self) -> None:
        self._host.stopping = True
        self._http.should_exit = True
        self.begun.set()

    async def finish(self, serving: asyncio.Task[None], timeout: float) -> None:
        """Wait up to `timeout` seconds for running requests, then end."""
        self.begin()
        active = self._http.active_requests + self._host.background_tasks
        log.info("shutting down (%d active request%s)", active, "" if active == 1 else "s")
        if active:
            log.info("waiting up to %g s for active requests; a second signal ends them immediately", timeout)
        second = asyncio.create_task(self._second.wait())
        drained = asyncio.create_task(self._drained(serving))
        done, _ = await asyncio.wait((drained, second), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in (second, drained):
            task.cancel()
        if not done:
            log.warning("requests are still running after %g s and will be ended", timeout)
        await self.end(serving)

    async def _drained(self, serving: asyncio.Task[None]) -> None:
        """Wait for the connections and the background work."""
        await asyncio.wait((serving,))
        await self._host.drain()

    async def end(self, serving: asyncio.Task[None]) -> None:
        """Stop the models, including their running requests, and the server."""
        self.begin()
        await self._host.stop(CLOSE_TIMEOUT)
        await asyncio.wait((serving,), timeout=FLUSH_TIMEOUT)
        self._http.force_exit = True
        await serving


async def _loaded(host: Host, stop: Stop, display: LoadingDisplay, *, strict: bool) -> bool:
    """Wait until every model has loaded or failed; return False if the server is shut down before.

    Raises LoadError if all models fail, or if one fails and `strict` is set.
    """
    loading = asyncio.create_task(host.wait_started(strict=strict))
    begun = asyncio.create_task(stop.begun.wait())
    with display:
        await asyncio.wait((loading, begun), return_when=asyncio.FIRST_COMPLETED)
    begun.cancel()
    if not loading.done():
        loading.cancel()
        return False
    await loading
    return True
