"""The command `mlx-host doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from mlx_host import __version__
from mlx_host._cli.doctor.check import Check, Status, is_healthy, report_json, report_text
from mlx_host._cli.doctor.privacy import redacted
from mlx_host._cli.ineffective import unknown_variables
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import variable_name


@click.command(name="doctor")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar=variable_name("config"),
    help="Also check this configuration file.",
)
@click.option("--host", help="The address of the server.  [default: the configured one]")
@click.option("--port", type=int, help="The port of the server.  [default: the configured one]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for bug reports.")
@click.pass_context
def doctor_command(
    ctx: click.RichContext, config: Path | None, host: str | None, port: int | None, as_json: bool
) -> None:
    """Check this machine: Python, plugins, MLX, memory, disk, port, and the running server.

    Each finding that is not `ok` has a remedy. Home directories, user names and keys are not printed. The exit code is
    1 if something required is missing.
    """
    plugins: Plugins = ctx.obj
    checks: list[Check] = []
    for check in _checks(plugins, ctx.find_root().command, config, host, port):
        checks.append(redacted(check))
        if not as_json:
            click.echo(report_text(checks[-1:]))
    if as_json:
        click.echo(report_json(__version__, checks))
    if not is_healthy(checks):
        ctx.exit(1)


def _checks(
    plugins: Plugins, cli: click.Command, config: Path | None, host: str | None, port: int | None
) -> Iterator[Check]:
    # Imported here: they import the web framework and the hub's client, which no other command needs at startup.
    from mlx_host._cli.doctor import machine, software

    yield machine.check_python()
    yield from software.check_plugins(plugins)
    yield from machine.check_mlx()
    yield from machine.check_memory()
    yield from software.check_hub()
    for warning in unknown_variables(plugins, cli):
        yield Check("settings", Status.WARNING, warning.rstrip("."), "Correct or unset the variable.")
    settings, checks = software.check_settings(plugins, {"host": host, "port": port}, config)
    yield from checks
    if settings is not None:
        yield software.check_port(settings)
