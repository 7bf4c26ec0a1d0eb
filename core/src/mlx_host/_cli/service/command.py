"""The commands `mlx-host service install`, `status` and `uninstall`."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rich_click as click

from mlx_host._cli.configuration import read_file, read_settings
from mlx_host._cli.service.launchd import Launchd
from mlx_host._cli.service.manager import ServiceError, ServiceManager, ServiceSpec
from mlx_host._cli.service.systemd import Systemd
from mlx_host._host.catalog import Catalog
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import variable_name
from mlx_host.errors import UsageError, describe_error

# Seconds in addition to --shutdown-timeout until the service manager kills the server.
STOP_MARGIN = 10


@click.group(name="service")
def service_group() -> None:
    """Keep a server running after login, with launchd on macOS and systemd on Linux."""


def service_manager() -> ServiceManager:
    """Return the service manager of this system."""
    return Launchd() if sys.platform == "darwin" else Systemd()


@service_group.command(name="install")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="The configuration file of the server. Relative paths in it are relative to its folder.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def install_command(plugins: Plugins, config: Path, yes: bool) -> None:
    """Install a service that runs `mlx-host run --config FILE` after login, and start it.

    The server is restarted if it fails. An installed service is replaced. The file that is written and the commands
    that are run are shown first.
    """
    manager = service_manager()
    spec = service_spec(plugins, config)
    manager.check_available()
    text = manager.file(spec)
    click.echo(f"This {'replaces' if manager.path.exists() else 'writes'} {manager.path}:\n\n{text}\nand runs:\n")
    for command in manager.start_commands():
        click.echo(f"  {' '.join(command)}")
    if ignored := sorted(name for name in os.environ if name.upper().startswith(variable_name(""))):
        click.echo(
            f"\nNote: the service does not inherit {', '.join(ignored)} from this shell; use the configuration file."
        )
    click.echo()
    if not yes:
        click.confirm("Install and start the service?", abort=True)
    try:
        manager.path.parent.mkdir(parents=True, exist_ok=True)
        manager.path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ServiceError(f"{str(manager.path)!r} cannot be written: {describe_error(error)}.") from error
    manager.start()
    click.echo(f"The service is installed and started. Its log: {manager.log}")
    if manager.remark:
        click.echo(manager.remark)


def service_spec(plugins: Plugins, config: Path) -> ServiceSpec:
    """Return what the service runs; UsageError if the configuration file is invalid."""
    config = config.absolute()
    if not str(config).isprintable():
        raise UsageError(f"--config {str(config)!r}: the path contains a control character.")
    file, _ = read_file(config, plugins)
    with _without_variables(), _working_directory(config.parent):
        settings = read_settings(plugins, {}, file, config)
        Catalog.from_settings(settings, plugins)
    # The interpreter, because the service's PATH is not that of this shell.
    command = (sys.executable, "-m", "mlx_host", "run", "--config", str(config))
    return ServiceSpec(command, config.parent, math.ceil(settings.host.shutdown_timeout) + STOP_MARGIN)


@contextmanager
def _without_variables() -> Iterator[None]:
    """Hide the settings in the environment, which the service does not get."""
    hidden = {name: value for name, value in os.environ.items() if name.upper().startswith(variable_name(""))}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _working_directory(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@service_group.command(name="status")
@click.pass_context
def status_command(ctx: click.RichContext) -> None:
    """Show whether the service is installed and running; the exit code is 1 if it is not running."""
    manager = service_manager()
    if not manager.path.exists():
        click.echo("The service is not installed. Install it with: mlx-host service install --config FILE")
        ctx.exit(1)
    state = manager.state()
    click.echo(f"state  {state.description}\nfile   {manager.path}\nlog    {manager.log}")
    if not state.running:
        ctx.exit(1)


@service_group.command(name="uninstall")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def uninstall_command(yes: bool) -> None:
    """Stop the service and remove its file; the configuration file and the log are kept."""
    manager = service_manager()
    if not manager.path.exists():
        click.echo("The service is not installed.")
        return
    manager.check_available()
    if not yes:
        click.confirm(f"Stop the service and remove {manager.path}?", abort=True)
    manager.stop()
    manager.path.unlink()
    click.echo("The service is stopped and removed.")
