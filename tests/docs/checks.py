"""Checks of blocks that are not executed, and of the output of those that are."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import click
from click.testing import CliRunner
from mlx_host._cli import build, discover, run

from tests.docs.blocks import ROOT, Block, commands


def compare(block: Block, shown: str, printed: str) -> None:
    """Check that the output equals the text on the page; an ellipsis matches anything."""
    if block.language == "json":
        assert _alike(json.loads(shown), json.loads(printed)), f"{block}: shown {shown}\nprinted {printed}"
        return
    parts = [re.escape(part) for part in re.split("…", shown.strip())]
    pattern = "(?s)" + ".*?".join(parts)
    lines = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    assert re.fullmatch(pattern, lines), f"{block}: shown\n{shown}\nprinted\n{printed}"


def _alike(shown: Any, printed: Any) -> bool:
    """Compare JSON values; the page may omit members."""
    match shown:
        case "…":
            return True
        case dict():
            return isinstance(printed, dict) and all(k in printed and _alike(v, printed[k]) for k, v in shown.items())
        case list():
            return isinstance(printed, list) and len(shown) == len(printed) and all(map(_alike, shown, printed))
        case str() if "…" in shown:
            pattern = ".*?".join(map(re.escape, shown.split("…")))
            return isinstance(printed, str) and re.fullmatch(pattern, printed, re.DOTALL) is not None
        case _:
            return bool(shown == printed)


def read_only(block: Block) -> None:
    """Check a block that is not executed."""
    if block.language == "python":
        compile(block.text, block.page, "exec")
    elif block.language == "js" and (node := shutil.which("node")) is not None:
        check = [node, "--check", "--input-type=module", "-"]
        done = subprocess.run(check, input=block.text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}: {done.stderr}"
    elif block.language in ("sh", "console"):
        text = block.text
        if block.language == "console":
            text = "".join(f"{line[2:]}\n" for line in text.splitlines() if line.startswith("$ "))
        for command in commands(text):
            read_shell(block, command)


def read_shell(block: Block, command: str) -> None:
    """Check a command with `bash -n`, and its arguments with mlx-host's parser."""
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block}: {done.stderr}"
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    while words and (words[0] in ("uv", "run", "sudo", "exec") or re.fullmatch(r"\w+=.*", words[0])):
        words = words[1:]
    if words[:1] == ["mlx-host"]:
        read_arguments(block, words[1:])
    elif words[:2] == ["python", "-m"] and words[2].startswith(("benchmarks.", "scripts.")):
        assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file(), f"{block}: {words}"


class Parsed(Exception):
    """Raised instead of executing a valid command line."""


@contextlib.contextmanager
def _nothing_served() -> Iterator[None]:
    with patch.object(run, "serve", side_effect=Parsed):
        yield


def read_arguments(block: Block, args: Sequence[str]) -> None:
    """Parse a command line like mlx-host; `run` also checks its settings, without starting anything."""
    cli = build(discover())
    if "--help" in args:
        result = CliRunner().invoke(cli, list(args), prog_name="mlx-host")
        assert result.exit_code == 0, f"{block}: mlx-host {shlex.join(args)}\n{result.stderr}"
        return
    if args[:1] in (["run"], ["launch"]):
        with _nothing_served():
            result = CliRunner().invoke(cli, list(args), prog_name="mlx-host")
        assert isinstance(result.exception, Parsed), f"{block}: mlx-host {shlex.join(args)}\n{result.stderr}"
        return
    command: click.Command = cli
    words = list(args)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{block}: unknown command {words[0]!r}"
        command = command.commands[words.pop(0)]
    # A group without a command prints its help.
    with contextlib.suppress(click.exceptions.NoArgsIsHelpError):
        command.make_context(command.name, words, obj=cli.context_settings["obj"])
