"""The whole plugin contract: seven hooks, none of which runs per token.

A plugin is a module (or object) behind an entry point of the group `mlx_host`; it marks what it implements with
`mlx_host.hookimpl`. See https://pluggy.readthedocs.io for ordering (`tryfirst`) and wrappers (`wrapper=True`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click
    from fastapi import APIRouter

    from mlx_host._host import Host, RequestRecord, ServedModel
    from mlx_host.backend import Backend, Source
    from mlx_host.parsing import Parser
    from mlx_host.requests import Request

GROUP = "mlx_host"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_backends() -> Iterable[Backend[Any]]:  # type: ignore[empty-body]
    """Return the backends that this plugin brings."""


@hookspec
def register_parsers() -> Iterable[type[Parser]]:  # type: ignore[empty-body]
    """Return the parser families that this plugin brings."""


@hookspec(firstresult=True)
def resolve_source(ref: str) -> Source | None:
    """Return where the model named `ref` comes from, or None if this plugin does not know it.

    Runs at start-up in the host and again in the model's process; it must be quick and touch no network.
    """


@hookspec(firstresult=True)
def prepare_request(request: Request, model: ServedModel) -> Request:  # type: ignore[empty-body]
    """Return the request that the model gets. Implement it as a wrapper: `yield` gives what the others made of it.

    Raise RequestError to refuse. Core's own implementation returns the request as it came.
    """


@hookspec
def request_finished(record: RequestRecord) -> None:
    """See what became of a request: answered, refused, failed or cancelled."""


@hookspec
def register_routes(router: APIRouter, host: Host) -> None:
    """Add HTTP endpoints to `router`; `host.ask` answers requests."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to `mlx-host`."""
