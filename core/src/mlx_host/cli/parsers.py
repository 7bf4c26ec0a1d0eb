"""`mlx-host parsers`, `mlx-host parser test` and `mlx-host parser fuzz`: parsers without a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console
from rich.table import Table

from mlx_host.errors import UsageError
from mlx_host.parsing import Marker, Parser, Part, ToolCall
from mlx_host.plugins import Plugins
from mlx_host.requests import Json

# Calls of unknown functions are read, too, so that one tool of any name is enough to have them read.
ANY_TOOL: Json = {"type": "function", "function": {"name": "any", "parameters": {"type": "object"}}}
# Above this length, splitting at each place in turn is left to the fuzzer.
MOST_SPLITS = 2000


@click.command(name="parsers")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.pass_obj
def parsers_command(plugins: Plugins, as_json: bool) -> None:
    """List the installed parser families, what each reads, and whether calls can be forced in its format."""
    rows = list(_rows(plugins))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("parser", "also called", "reads", "forces calls", "distribution")
    for row in rows:
        forces = "yes" if row["forces_calls"] else "no"
        table.add_row(row["name"], ", ".join(row["aliases"]), row["reads"], forces, row["distribution"])
    Console().print(table)


def _rows(plugins: Plugins) -> Iterator[dict[str, Any]]:
    families = {parser: plugins.parsers.origins[key] for key, parser in plugins.parsers.found.items()}
    for parser, origin in sorted(families.items(), key=lambda row: row[0].name):
        yield {
            "name": parser.name,
            "aliases": list(parser.aliases),
            "reads": parser.reads,
            "forces_calls": parser.grammar is not Parser.grammar,
            "distribution": origin.distribution,
        }


@click.group(name="parser")
def parser_group() -> None:
    """Try a parser on recorded text, without a model."""


@dataclass(frozen=True)
class Recording:
    """A model's raw output, and how the parser was primed for it."""

    text: str
    prompt_tail: str = ""
    tools: Sequence[Json] = (ANY_TOOL,)


@parser_group.command(name="test")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--prompt-tail", default="", help="What the chat template appended last, such as '<think>\\n'.")
@click.pass_obj
def test_command(plugins: Plugins, name: str, file: Path, prompt_tail: str) -> None:
    """Run the recorded output in FILE through the parser NAME, cut in every way, and print what comes out.

    FILE is plain text, or JSONL with an object a line: "text", and if need be "prompt_tail" and "tools". The exit code
    is 1 if the way the text is cut shows.
    """
    parser = plugins.parser(name)
    console = Console()
    failed = False
    for number, recording in enumerate(read_recordings(file, prompt_tail), start=1):
        whole = run(parser, recording, [recording.text])
        console.rule(f"recording {number}: {len(recording.text)} characters")
        for part in whole:
            _show(console, part)
        for pieces in chunkings(recording.text):
            if (parts := run(parser, recording, pieces)) != whole:
                failed = True
                console.print("[red]cut differently, this comes out instead:[/red]", repr(pieces)[:200])
                for part in parts:
                    _show(console, part)
                break
    if failed:
        raise SystemExit(1)


def read_recordings(file: Path, prompt_tail: str) -> list[Recording]:
    """Read text or JSONL; UsageError says what is wrong with it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error}") from error
    if file.suffix != ".jsonl":
        return [Recording(text, prompt_tail)]
    recordings = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            tools = entry.get("tools") or (ANY_TOOL,)
            recordings.append(Recording(entry["text"], entry.get("prompt_tail", prompt_tail), tools))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f'line {number} of {str(file)!r} is no JSON object with a "text": {error}') from error
    return recordings


def chunkings(text: str) -> Iterator[list[str]]:
    """The ways to cut a text: single characters, pieces of a few sizes, in two at each place."""
    for size in (1, 2, 3, 4, 7, 16, 64):
        yield [text[at : at + size] for at in range(0, len(text), size)]
    if len(text) <= MOST_SPLITS:
        for at in range(1, len(text)):
            yield [text[:at], text[at:]]


def run(parser: type[Parser], recording: Recording, pieces: Sequence[str]) -> list[Part]:
    """Feed a parser; neighbouring parts of one kind are joined."""
    reading = parser(prompt_tail=recording.prompt_tail, tools=recording.tools)
    parts: list[Part] = []
    for part in [part for piece in pieces for part in reading.feed(piece)] + reading.finish():
        last = parts[-1] if parts else None
        if last is not None and type(last) is type(part) and not isinstance(part, ToolCall):
            parts[-1] = type(part)(last.source + part.source)
        elif part.source:
            parts.append(part)
    return parts


def _show(console: Console, part: Part) -> None:
    match part:
        case ToolCall(name, arguments):
            console.print(f"[green]call[/green]      {name} ", end="")
            console.print(arguments, markup=False, highlight=False)
        case Marker(source):
            console.print("[dim]marker    [/dim]", end="")
            console.print(repr(source), style="dim", markup=False, highlight=False)
        case _:
            console.print(f"[cyan]{type(part).__name__.lower():<10}[/cyan]", end="")
            console.print(repr(part.source), markup=False, highlight=False)


@parser_group.command(name="fuzz")
@click.argument("name")
@click.pass_obj
def fuzz_command(plugins: Plugins, name: str) -> None:
    """Run the contract that every parser must pass on the parser NAME; needs the extra `mlx-host[testing]`."""
    parser = plugins.parser(name)
    try:
        from mlx_host.testing import ParserContract
    except ImportError as error:
        raise UsageError(f"The contract needs {error.name}; install it: pip install 'mlx-host[testing]'") from error
    contract = type("Contract", (ParserContract,), {"parser": parser})()
    console = Console()
    failed = False
    for law in sorted(name for name in dir(contract) if name.startswith("test_")):
        try:
            getattr(contract, law)()
        except AssertionError as error:
            failed = True
            console.print(f"[red]fails[/red]  {law.removeprefix('test_').replace('_', ' ')}")
            console.print(str(error), markup=False, highlight=False)
        else:
            console.print(f"[green]holds[/green]  {law.removeprefix('test_').replace('_', ' ')}")
    if failed:
        raise SystemExit(1)
