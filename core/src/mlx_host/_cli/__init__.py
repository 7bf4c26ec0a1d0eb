"""The command line: `mlx-host run`, `mlx-host plugins`, and the commands of plugins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rich_click as click
from click.exceptions import Exit, NoArgsIsHelpError, NoSuchCommand, NoSuchOption

from mlx_host import __version__
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import edit_distance
from mlx_host.errors import MlxHostError, UsageError


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Print errors as single lines without boxes or wrapping, so that they can be searched for in logs."""
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except click.ClickException as error:
        _print_error(_message(error))
        ctx = error.ctx if isinstance(error, click.UsageError) else None
        if ctx is not None and ctx.command.get_help_option(ctx) is not None:
            click.echo(f"Try `{ctx.command_path} --help`.", err=True)
        raise Exit(error.exit_code) from error
    except MlxHostError as error:
        _print_error(str(error))
        raise Exit(2 if isinstance(error, UsageError) else 1) from error


def _message(error: click.ClickException) -> str:
    """Return the message; click would sort the suggestions by name."""
    if not isinstance(error, NoSuchOption | NoSuchCommand) or not error.possibilities:
        return error.format_message()
    name = error.option_name if isinstance(error, NoSuchOption) else error.command_name
    distances = {each: edit_distance(name, each) for each in error.possibilities}
    limit = min(distances.values()) + 1
    near = sorted((each for each in distances if distances[each] <= limit), key=distances.__getitem__)
    return f"{error.message} Did you mean {' or '.join(map(repr, near))}?"


def _print_error(message: str) -> None:
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {message}", err=True)


class Commands(click.RichGroup):
    """The group of all commands; prints errors as plain lines."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _plain_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _plain_errors():
            return super().invoke(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if isinstance(ctx.obj, Plugins):
            ctx.obj.commands.check(cmd_name)
        return super().get_command(ctx, cmd_name)


def discover() -> Plugins:
    """Load all plugins: core's own, then the installed ones."""
    from mlx_host._apis import builtin as apis
    from mlx_host._apis.metrics import MetricsPlugin
    from mlx_host._bench import plugin as bench
    from mlx_host._cli import builtin_commands as commands
    from mlx_host._host import builtin_hooks as requests
    from mlx_host._plugins import sources

    return Plugins(
        {
            "sources": sources,
            "requests": requests,
            "apis": apis,
            "metrics": MetricsPlugin(),
            "commands": commands,
            "bench": bench,
        }
    )


def build(plugins: Plugins) -> click.RichGroup:
    """Create the command line from the plugins' commands."""

    @click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "obj": plugins})
    @click.version_option(__version__, prog_name="mlx-host")
    def cli() -> None:
        """Serve MLX models with an OpenAI-compatible API. Backends, parsers and APIs are plugins."""

    plugins.collect_commands(click.RichGroup)
    for name, command in plugins.commands.found.items():
        cli.add_command(command, name)
    return cli


def main() -> None:
    """Run `mlx-host`."""
    build(discover())(prog_name="mlx-host")
