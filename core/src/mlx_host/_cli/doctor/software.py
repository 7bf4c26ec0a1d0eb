"""Checks of mlx-host: its plugins, its configuration, the hub, and the port."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlx_host import __version__
from mlx_host._cli.configuration import read_file, read_settings
from mlx_host._cli.doctor.check import Check, Status
from mlx_host._cli.plugins_command import endpoints
from mlx_host._host.catalog import Catalog
from mlx_host._plugins.manager import OWN, Plugins
from mlx_host._settings import HOST, FileValues, HostSettings, merge_settings
from mlx_host.errors import UsageError

# Less than this is too little for most downloads, in bytes.
MIN_DISK = 10 * 10**9
# Seconds that a running server has to respond.
HEALTH_TIMEOUT = 2


def check_plugins(plugins: Plugins) -> Iterator[Check]:
    """List the plugins; a warning for each that was skipped and each name that is registered twice."""
    # Creates the endpoints, so that APIs that fail are skipped.
    endpoints(plugins)
    versions = {info.distribution: info.version for info in plugins.loaded.values() if info.distribution != OWN}
    backends = sorted(plugins.backends.found)
    families = len({parser.name for parser in plugins.parsers.found.values()})
    yield Check("mlx-host", Status.OK, __version__, details={"plugins": versions})
    others = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()) if version != __version__)
    count = f"{len(versions)} with {families} parser families"
    yield Check("plugins", Status.OK, f"{count}; with a different version: {others}" if others else count)
    if backends:
        yield Check("backends", Status.OK, ", ".join(backends), details={"backends": backends})
    else:
        remedy = 'Install one, such as mlx-lm for text models: pip install "mlx-host[lm]"'
        yield Check("backends", Status.ERROR, "none is installed", remedy)
    for failed in plugins.failed:
        name = failed.info.distribution
        remedy = f"Install a version that works, or remove it: pip uninstall {name}"
        yield Check("broken plugin", Status.WARNING, str(failed).removeprefix("plugin "), remedy)
    for problem in plugins.problems():
        kind, _, text = problem.partition(": ")
        if kind == "conflict":
            message, _, remedy = text.partition("; ")
            yield Check("conflict", Status.WARNING, message, f"{remedy[:1].upper()}{remedy[1:]}.")


def check_hub() -> Iterator[Check]:
    from huggingface_hub import constants, get_token

    cache = Path(constants.HF_HUB_CACHE)
    folder = next(parent for parent in (cache, *cache.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    message = f"{free / 10**9:.1f} GB free in {cache}"
    details = {"free_bytes": free, "offline": bool(constants.HF_HUB_OFFLINE)}
    remedy = "Set HF_HOME to a folder on another disk."
    if not os.access(folder, os.W_OK):
        yield Check("hub cache", Status.WARNING, f"{cache} cannot be written", remedy, details)
    elif free < MIN_DISK:
        yield Check("hub cache", Status.WARNING, message, f"Free disk space. Or: {remedy}", details)
    else:
        offline = "; HF_HUB_OFFLINE is set, so nothing is downloaded" if constants.HF_HUB_OFFLINE else ""
        yield Check("hub cache", Status.OK, message + offline, details=details)
    is_set = get_token() is not None
    text = "set" if is_set else "not set; only gated and private models require it (`hf auth login`, or HF_TOKEN)"
    yield Check("hub token", Status.OK, text, details={"set": is_set})


def check_settings(
    plugins: Plugins, params: Mapping[str, Any], config: Path | None
) -> tuple[HostSettings | None, list[Check]]:
    """Validate the settings; return those of the server, or None if they are invalid."""
    given = {key: value for key, value in params.items() if value is not None}
    try:
        if config is None:
            return merge_settings(HOST, given, FileValues({})), []
        file, _ = read_file(config, plugins)
        settings = read_settings(plugins, given, file, config)
        models = [spec.name for spec in Catalog.from_settings(settings, plugins)]
    except UsageError as error:
        return None, [Check("settings", Status.ERROR, str(error), "Correct the setting.")]
    return settings.host, [Check("settings", Status.OK, f"{config} is valid; models: {', '.join(models)}")]


def check_port(settings: HostSettings) -> Check:
    """Whether the port is free, or else which server uses it."""
    from mlx_host._http import server

    where = f"{settings.host}:{settings.port}"
    if settings.port == 0:
        return Check("port", Status.OK, "a free port is chosen (port 0)")
    if (health := _health(settings)) is not None:
        return _running(where, health)
    try:
        server.bind(settings.host, settings.port).close()
    except UsageError as error:
        remedy = "Stop the program that uses it, or choose another with --port or MLX_HOST_PORT."
        return Check("port", Status.ERROR, str(error).partition(". ")[0], remedy)
    return Check("port", Status.OK, f"{where} is free; no server is running there")


def _running(where: str, health: Mapping[str, Any]) -> Check:
    models: Mapping[str, str] = health["models"]
    states = ", ".join(f"{name} {state}" for name, state in models.items())
    message = f"mlx-host is running at {where}: {states}"
    if health["status"] == "ok":
        return Check("server", Status.OK, message, details=health)
    remedy = f"See the server's log and http://{where}/health."
    return Check("server", Status.WARNING, message, remedy, health)


def _health(settings: HostSettings) -> dict[str, Any] | None:
    """Return /health of the mlx-host that runs at this address; None if there is none."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    url = f"http://[{host}]:{settings.port}/health" if ":" in host else f"http://{host}:{settings.port}/health"
    # Proxies of the environment do not apply; a 503 is a response like any other.
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.HTTPHandler())
    with suppress(OSError, ValueError), opener.open(url, timeout=HEALTH_TIMEOUT) as response:
        body = json.loads(response.read())
        if isinstance(body, dict) and isinstance(body.get("models"), dict) and "status" in body:
            return body
    return None
