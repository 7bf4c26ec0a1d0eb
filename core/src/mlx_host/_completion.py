"""Completes the values of options and arguments: backends, parsers, APIs, and served models."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path

import rich_click as click
from click.shell_completion import CompletionItem

from mlx_host._host.parser_selection import AutoParser
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import ModelSettings, load_file, variable_name
from mlx_host.errors import UsageError

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
# The key in `Context.meta` of the arguments of a command that accepts options of `mlx-host run`.
ARGUMENTS = "mlx_host.arguments"
# Seconds that a server has to list its models, while the user waits for the completion.
TIMEOUT = 1.0


def complete_backend(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an installed backend."""
    plugins: Plugins = ctx.obj
    return _items(((name, backend.summary) for name, backend in plugins.backends.found.items()), incomplete)


def complete_parser(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an installed parser, without its aliases."""
    plugins: Plugins = ctx.obj
    return _items({parser.name: parser.description for parser in plugins.parsers.found.values()}.items(), incomplete)


def complete_parser_or_auto(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the value of --parser."""
    auto = _items([(AutoParser.name, "selected by the chat template")], incomplete)
    return auto + complete_parser(ctx, param, incomplete)


def complete_api(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an installed API."""
    plugins: Plugins = ctx.obj
    return _items(((name, api.summary) for name, api in plugins.apis.found.items()), incomplete)


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the folder of a model."""
    return [CompletionItem(incomplete, type="dir")]


def complete_served_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a model of the server whose URL is an argument, or else of a configuration file.

    The file is that of `MLX_HOST_CONFIG`. Without a URL, folders are completed.
    """
    arguments: Iterable[str] = ctx.meta.get(ARGUMENTS, ())
    url = next((argument for argument in arguments if argument.startswith(("http://", "https://"))), None)
    if url is None:
        return complete_model(ctx, param, incomplete)
    names = _models_of_server(url) or _models_of_file(os.environ.get(variable_name("config")))
    return _items(((name, "") for name in names), incomplete)


def _models_of_server(url: str) -> list[str]:
    with (
        suppress(OSError, ValueError, KeyError, TypeError),
        urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=TIMEOUT) as response,
    ):
        return [str(model["id"]) for model in json.loads(response.read())["data"]]
    return []


def _models_of_file(file: str | None) -> list[str]:
    fields = ("backend", "model", "served_model_name")
    if file:
        # An invalid file has no completions.
        with suppress(UsageError, ValueError, TypeError, AttributeError):
            tables = load_file(Path(file)).get("models", [])
            values = [{key: value for key, value in table.items() if key in fields} for table in tables]
            return [ModelSettings.model_validate(each).name for each in values]
    return []


def complete_run_option(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the value of an option of `mlx-host run` in the arguments of another command."""
    arguments: list[str] = ctx.meta.get(ARGUMENTS, [])
    option = next((each for each in _run_options(ctx, arguments) if arguments and arguments[-1] in each.opts), None)
    return option.shell_complete(ctx, incomplete) if option is not None and not option.is_flag else []


def run_option_names(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an option of `mlx-host run` in the arguments of another command."""
    options = _run_options(ctx, ctx.meta.get(ARGUMENTS, []))
    rows = ((name, option.help or "") for option in options for name in chain(option.opts, option.secondary_opts))
    return _items((row for row in rows if row[0].startswith("--")), incomplete)


def _run_options(ctx: click.Context, arguments: list[str]) -> Iterator[click.Option]:
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    run = root.command.get_command(root, "run")
    assert run is not None
    with run.make_context("run", list(arguments), parent=root, resilient_parsing=True) as context:
        yield from (param for param in run.get_params(context) if isinstance(param, click.Option))


def _items(rows: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=text or None) for name, text in sorted(rows) if name.startswith(incomplete)]


# By the name of the setting.
COMPLETERS: Mapping[str, Completer] = {
    "backend": complete_backend,
    "model": complete_model,
    "parser": complete_parser_or_auto,
    "tool_call_parser": complete_parser_or_auto,
    "reasoning_parser": complete_parser_or_auto,
    "disable_api": complete_api,
}
