"""The command line: `mlx-host run`, `mlx-host plugins`, and what plugins add."""

from __future__ import annotations

from typing import Any

import rich_click as click

from mlx_host import __version__
from mlx_host.errors import MlxHostError, UsageError
from mlx_host.plugins import Plugins


class Sentence(click.ClickException):
    """An error of ours as click shows it: one sentence, no traceback."""

    def __init__(self, error: MlxHostError) -> None:
        super().__init__(str(error))


class UsageSentence(Sentence):
    """The same where the command line is at fault."""

    exit_code = 2


class Commands(click.RichGroup):
    """The group of all commands; our own errors leave it as sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MlxHostError as error:
            raise (UsageSentence if isinstance(error, UsageError) else Sentence)(error) from error


def discover() -> Plugins:
    """Find every plugin: core's own, then what is installed."""
    from mlx_host import sources
    from mlx_host.api import builtin as endpoints
    from mlx_host.bench import plugin as bench
    from mlx_host.cli import builtin as commands
    from mlx_host.host import builtin as requests

    own = {"sources": sources, "requests": requests, "endpoints": endpoints, "commands": commands, "bench": bench}
    return Plugins(own)


def build(plugins: Plugins) -> click.RichGroup:
    """Make the command line from what the plugins bring."""

    @click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="mlx-host")
    @click.pass_context
    def cli(ctx: click.Context) -> None:
        """Serve MLX models behind OpenAI's HTTP API; every model type and parser family is a plugin."""
        ctx.obj = plugins

    plugins.hook.register_commands(cli=cli)
    return cli


def main() -> None:
    """Run `mlx-host`."""
    build(discover())(prog_name="mlx-host")
