"""The command `mlx-host completion`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import rich_click as click
from click.shell_completion import get_completion_class

from mlx_host._cli.completion import shells
from mlx_host.errors import MlxHostError, UsageError, describe_error

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "mlx-host"
VARIABLE = "_MLX_HOST_COMPLETE"
# zsh's completion system must be loaded before `compdef` is used.
ZSH_PREAMBLE = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n"

shells.register()


@click.command(name="completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Install the script for the current user instead of printing it.")
@click.pass_context
def completion_command(ctx: click.RichContext, shell: str | None, install: bool) -> None:
    """Print or install the completion script for bash (4.4 or later), zsh or fish; by default for the shell in $SHELL.

    It completes commands, options, backends with their options, parsers, APIs, and the models of a running server.
    """
    shell = shell or _current_shell()
    script = _script(ctx.find_root().command, shell)
    if not install:
        click.echo(script, nl=False)
        return
    try:
        for line in _install(shell, script):
            click.echo(line)
    except OSError as error:
        raise MlxHostError(f"The completion script cannot be installed: {describe_error(error)}.") from error
    click.echo(f"Start a new {shell} to use it.")


def _current_shell() -> str:
    path = os.environ.get("SHELL", "")
    name = Path(path).name
    if name not in SHELLS:
        given = f"$SHELL is {path!r}" if path else "$SHELL is not set"
        raise UsageError(f"{given}; name the shell: {PROGRAM} completion {'|'.join(SHELLS)}.")
    return name


def _script(cli: click.Command, shell: str) -> str:
    found = get_completion_class(shell)
    assert found is not None
    source = found(cli, {}, PROGRAM, VARIABLE).source().strip()
    if shell == "zsh":
        # The first line must remain `#compdef`, for scripts in zsh's function path.
        source = source.replace("\n", f"\n{ZSH_PREAMBLE}", 1)
    return f"{source}\n"


def _install(shell: str, script: str) -> list[str]:
    """Write the script, and for bash and zsh a line in the shell's startup file; describe what was written."""
    if shell == "fish":
        # fish loads the scripts in this folder itself.
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return [_write(config / "fish" / "completions" / f"{PROGRAM}.fish", script)]
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    file = data / PROGRAM / f"completion.{shell}"
    startup = {
        "bash": Path.home() / ".bashrc",
        "zsh": Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc",
    }
    return [_write(file, script), _source(file, startup[shell])]


def _write(file: Path, text: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return f"wrote {file}"


def _source(file: Path, startup: Path) -> str:
    line = f". {shlex.quote(str(file))}"
    text = startup.read_text(encoding="utf-8") if startup.exists() else ""
    if line in text.splitlines():
        return f"{startup} already loads it"
    separator = "" if not text or text.endswith("\n") else "\n"
    with startup.open("a", encoding="utf-8") as appended:
        appended.write(f"{separator}{line}\n")
    return f"added to {startup}: {line}"
