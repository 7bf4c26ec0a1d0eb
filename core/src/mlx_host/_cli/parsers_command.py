"""`mlx-host parsers`, `mlx-host parser test` and `mlx-host parser fuzz`: list and test parsers without a model."""

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

from mlx_host._completion import complete_parser
from mlx_host._plugins.manager import PARSER_PACKAGES, Plugins
from mlx_host._validation import field_path, reason
from mlx_host.errors import UsageError
from mlx_host.parsing import Marker, Parser, Part, ToolCall
from mlx_host.requests import Json

# Parsers also extract calls to unknown functions, so the name of the tool does not matter.
ANY_TOOL: Json = {"type": "function", "function": {"name": "any", "parameters": {"type": "object"}}}
# Longer texts are not split at every position; `parser fuzz` tests more ways.
MAX_SPLITS = 2000


@click.command(name="parsers")
@click.option("--json", "as_json", is_flag=True, help="Print the parsers as JSON.")
@click.pass_obj
def parsers_command(plugins: Plugins, as_json: bool) -> None:
    """List the installed parsers, what each extracts, and whether it supports forced tool calls."""
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
    for title in ("parser", "aliases"):
        # Not wrapped, so that names can be copied.
        table.add_column(title, no_wrap=True)
    table.add_column("extracts")
    table.add_column("forced calls")
    for row in rows:
        forces = "yes" if row["forces_calls"] else "no"
        # Text: descriptions may contain Rich markup characters.
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
    """Test a parser on recorded output, without a model."""


@dataclass(frozen=True)
class Recording:
    """A model's raw output, and the arguments of the parser for it."""

    text: str
    generation_prompt: str = ""
    tools: Sequence[Json] = (ANY_TOOL,)


class _Entry(BaseModel):
    """A line of a JSONL file."""

    text: str
    generation_prompt: str | None = None
    tools: list[Json] | None = None


@parser_group.command(name="test")
@click.argument("name", shell_complete=complete_parser)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--generation-prompt",
    default="",
    help="The text that the chat template appends after the last message, such as '<think>\\n'.",
)
@click.pass_obj
def test_command(plugins: Plugins, name: str, file: Path, generation_prompt: str) -> None:
    """Parse the recorded output in FILE with the parser NAME, split into chunks in many ways, and print the result.

    FILE is plain text, or JSONL whose objects have "text" and optionally "generation_prompt" and "tools". The exit code
    is 1 if the result depends on the chunks.
    """
    parser = plugins.parser(name)
    console = Console()
    failed = False
    for number, recording in enumerate(read_recordings(file, generation_prompt), start=1):
        expected = run(parser, recording, [recording.text])
        console.rule(f"recording {number}: {len(recording.text)} characters")
        for part in expected:
            _print_part(console, part)
        for chunks in chunkings(recording.text):
            if (parts := run(parser, recording, chunks)) != expected:
                failed = True
                label = ("different result with the chunks ", "red")
                console.print(Text.assemble(label, repr(chunks)[:200]), soft_wrap=True)
                for part in parts:
                    _print_part(console, part)
                break
    if failed:
        raise SystemExit(1)


def read_recordings(file: Path, generation_prompt: str) -> list[Recording]:
    """Read recordings from a text or JSONL file; UsageError if the file is invalid."""
    try:
        # Not `read_text`, which replaces "\r\n" with "\n".
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error}") from error
    if file.suffix != ".jsonl":
        return [Recording(text, generation_prompt)]
    recordings = []
    # Not `splitlines`, which also splits at characters that JSON strings may contain, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entry = _Entry.model_validate_json(line)
            except ValidationError as error:
                details = error.errors()[0]
                field = field_path(details["loc"])
                prefix = f"{field}: " if field else ""
                raise UsageError(
                    f"Line {number} of {str(file)!r} is invalid: {prefix}{reason([details])}. "
                    'It must be a JSON object with "text", and optionally "generation_prompt" and "tools".'
                ) from error
            prompt = generation_prompt if entry.generation_prompt is None else entry.generation_prompt
            recordings.append(Recording(entry.text, prompt, entry.tools or (ANY_TOOL,)))
    if not recordings:
        raise UsageError(f"{str(file)!r} contains no recordings.")
    return recordings


def chunkings(text: str) -> Iterator[list[str]]:
    """Yield ways to split a text: into chunks of several sizes, and in two at each position."""
    for size in (1, 2, 3, 4, 7, 16, 64):
        yield [text[at : at + size] for at in range(0, len(text), size)]
    if len(text) <= MAX_SPLITS:
        for at in range(1, len(text)):
            yield [text[:at], text[at:]]


def run(family: type[Parser], recording: Recording, chunks: Sequence[str]) -> list[Part]:
    """Parse the chunks, and join adjacent parts of the same type."""
    parser = family(generation_prompt=recording.generation_prompt, tools=recording.tools)
    parts: list[Part] = []
    for part in [part for chunk in chunks for part in parser.feed(chunk)] + parser.finish():
        last = parts[-1] if parts else None
        if last is not None and type(last) is type(part) and not isinstance(part, ToolCall):
            parts[-1] = type(part)(last.source + part.source)
        elif part.source:
            parts.append(part)
    return parts


def _print_part(console: Console, part: Part) -> None:
    """Print a part without wrapping, so that it can be searched for."""
    match part:
        case ToolCall(name, arguments):
            line = Text.assemble(("call      ", "green"), f"{name} {arguments}")
        case Marker(source):
            line = Text.assemble(("marker    ", "dim"), (repr(source), "dim"))
        case _:
            line = Text.assemble((f"{type(part).__name__.lower():<10}", "cyan"), repr(part.source))
    console.print(line, soft_wrap=True)


@parser_group.command(name="fuzz")
@click.argument("name", shell_complete=complete_parser)
@click.pass_obj
def fuzz_command(plugins: Plugins, name: str) -> None:
    """Test the parser NAME against the parser contract; requires the extra `mlx-host[testing]`."""
    parser = plugins.parser(name)
    try:
        from mlx_host.testing import ParserContract
    except ImportError as error:
        raise UsageError(
            f"The parser contract tests require {error.name}. Install it with `pip install 'mlx-host[testing]'`."
        ) from error
    contract = type("Contract", (ParserContract,), {"parser": parser})()
    console = Console()
    failed = False
    for test in sorted(name for name in dir(contract) if name.startswith("test_")):
        description = test.removeprefix("test_").replace("_", " ")
        try:
            getattr(contract, test)()
        except AssertionError as error:
            failed = True
            console.print(f"[red]failed[/red]  {description}")
            console.print(str(error), markup=False, highlight=False)
        else:
            console.print(f"[green]passed[/green]  {description}")
    if failed:
        raise SystemExit(1)
