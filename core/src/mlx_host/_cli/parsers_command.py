"""`mlx-host parsers`, `mlx-host parser test` and `mlx-host parser fuzz`: parsers without a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_host._plugins.manager import PARSER_PACKAGES, Plugins
from mlx_host.errors import UsageError
from mlx_host.parsing import Marker, Parser, Part, ToolCall
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
    if not rows:
        click.echo(f"No parser is installed. {PARSER_PACKAGES}")
        return
    Console().print(_table(rows))


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(show_lines=True)
    for title in ("parser", "also called"):
        # Half a name cannot be copied.
        table.add_column(title, no_wrap=True)
    table.add_column("reads")
    table.add_column("forces calls")
    for row in rows:
        forces = "yes" if row["forces_calls"] else "no"
        # Text, as what a parser says of itself is no markup.
        table.add_row(*map(Text, (row["name"], "\n".join(row["aliases"]), row["reads"], forces)))
    return table


def _rows(plugins: Plugins) -> Iterator[dict[str, Any]]:
    owners = plugins.parsers.owners
    families = {parser: owners[key] for key, parser in plugins.parsers.found.items()}
    for parser, origin in sorted(families.items(), key=lambda row: row[0].name):
        yield {
            "name": parser.name,
            "aliases": list(parser.aliases),
            "reads": parser.description,
            "forces_calls": parser.can_force_calls(),
            "distribution": origin.distribution,
        }


@click.group(name="parser")
def parser_group() -> None:
    """Try a parser on recorded text, without a model."""


@dataclass(frozen=True)
class Recording:
    """A model's raw output, and how the parser was primed for it."""

    text: str
    generation_prompt: str = ""
    tools: Sequence[Json] = (ANY_TOOL,)


class _Entry(BaseModel):
    """A line of JSONL."""

    text: str
    generation_prompt: str | None = None
    tools: list[Json] | None = None


@parser_group.command(name="test")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--generation-prompt", default="", help="Text that the chat template appends to the prompt, such as '<think>\\n'."
)
@click.pass_obj
def test_command(plugins: Plugins, name: str, file: Path, generation_prompt: str) -> None:
    """Run the recorded output in FILE through the parser NAME, cut in every way, and print what comes out.

    FILE is plain text, or JSONL with one object per line: "text", optionally "generation_prompt" and "tools". The exit
    code is 1 if the parts depend on how the text is split.
    """
    parser = plugins.parser(name)
    console = Console()
    failed = False
    for number, recording in enumerate(read_recordings(file, generation_prompt), start=1):
        whole = run(parser, recording, [recording.text])
        console.rule(f"recording {number}: {len(recording.text)} characters")
        for part in whole:
            _show(console, part)
        for pieces in chunkings(recording.text):
            if (parts := run(parser, recording, pieces)) != whole:
                failed = True
                told = ("cut differently, this comes out instead: ", "red")
                console.print(Text.assemble(told, repr(pieces)[:200]), soft_wrap=True)
                for part in parts:
                    _show(console, part)
                break
    if failed:
        raise SystemExit(1)


def read_recordings(file: Path, generation_prompt: str) -> list[Recording]:
    """Read text or JSONL; UsageError says what is wrong with it."""
    try:
        # As it was written: `read_text` would make one character of a carriage return and a newline.
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error}") from error
    if file.suffix != ".jsonl":
        return [Recording(text, generation_prompt)]
    recordings = []
    # `splitlines` would cut at what JSON may hold in a string, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entry = _Entry.model_validate_json(line)
            except ValidationError as error:
                fault = error.errors()[0]
                field = "".join(f"{step}: " for step in fault["loc"][:1])
                raise UsageError(
                    f'Line {number} of {str(file)!r} must be a JSON object with "text", optionally '
                    f'"generation_prompt" and "tools"; {field}{fault["msg"]}.'
                ) from error
            tail = generation_prompt if entry.generation_prompt is None else entry.generation_prompt
            recordings.append(Recording(entry.text, tail, entry.tools or (ANY_TOOL,)))
    if not recordings:
        raise UsageError(f"{str(file)!r} holds no recording.")
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
    reading = parser(generation_prompt=recording.generation_prompt, tools=recording.tools)
    parts: list[Part] = []
    for part in [part for piece in pieces for part in reading.feed(piece)] + reading.finish():
        last = parts[-1] if parts else None
        if last is not None and type(last) is type(part) and not isinstance(part, ToolCall):
            parts[-1] = type(part)(last.source + part.source)
        elif part.source:
            parts.append(part)
    return parts


def _show(console: Console, part: Part) -> None:
    """Write a part in one line, however long: it is searched for."""
    match part:
        case ToolCall(name, arguments):
            told = Text.assemble(("call      ", "green"), f"{name} {arguments}")
        case Marker(source):
            told = Text.assemble(("marker    ", "dim"), (repr(source), "dim"))
        case _:
            told = Text.assemble((f"{type(part).__name__.lower():<10}", "cyan"), repr(part.source))
    console.print(told, soft_wrap=True)


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
    for test in sorted(name for name in dir(contract) if name.startswith("test_")):
        described = test.removeprefix("test_").replace("_", " ")
        try:
            getattr(contract, test)()
        except AssertionError as error:
            failed = True
            console.print(f"[red]fails[/red]  {described}")
            console.print(str(error), markup=False, highlight=False)
        else:
            console.print(f"[green]holds[/green]  {described}")
    if failed:
        raise SystemExit(1)
