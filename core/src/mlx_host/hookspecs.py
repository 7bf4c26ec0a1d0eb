"""The whole plugin contract: seven hooks, none of which runs per token.

A plugin is a module (or object) behind an entry point of the group `mlx_host`; it marks what it implements with
`mlx_host.hookimpl`. See https://pluggy.readthedocs.io for ordering (`tryfirst`, `trylast`) and wrappers
(`wrapper=True`). The `register_*` hooks cannot be wrappers: each result belongs to the plugin that returned it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

from mlx_host.api import Api, ModelStatus, RequestRecord
from mlx_host.backend import Backend, ModelSource
from mlx_host.parsing import Parser
from mlx_host.requests import Request

if TYPE_CHECKING:
    import click

GROUP = "mlx_host"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_backends() -> Iterable[Backend[Any]]:  # type: ignore[empty-body]
    """Return the backends that this plugin provides. Runs at startup, in the host and in every model's process."""


@hookspec
def register_parsers() -> Iterable[type[Parser]]:  # type: ignore[empty-body]
    """Return the parser families that this plugin provides. Runs at startup, in the host and in models' processes."""


@hookspec
def register_apis() -> Iterable[Api[Any]]:  # type: ignore[empty-body]
    """Return the APIs that this plugin provides. Runs at startup, in the host."""


@hookspec(firstresult=True)
def resolve_source(ref: str) -> ModelSource | None:
    """Return where the model named `ref` comes from, or None if this plugin does not know it.

    Runs at startup in the host and again in the model's process; it must be quick and must not use the network.
    """


@hookspec(firstresult=True)
def prepare_request(request: Request, model: ModelStatus) -> Request:  # type: ignore[empty-body]
    """Return the request to send to the model, with the same type, `id` and `model`. Implement it as a wrapper.

    `yield` returns the request that the other plugins returned; core's own implementation returns it unchanged. Raise
    RequestError to reject the request. Runs on the event loop, once per request: while it runs, all streams of the
    server are blocked. A warning is logged if an implementation takes longer than 50 ms.
    """


@hookspec
def request_finished(record: RequestRecord) -> None:
    """Observe a finished request: completed, rejected, failed or cancelled.

    Runs on the event loop, once per request. An exception is logged with the plugin's name; the other plugins are
    still called.
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to `mlx-host`. Runs at startup of the command line."""
