"""`mlx-host run`: from flags, environment and file to a server with its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click

from mlx_host._cli import flags, legacy_options
from mlx_host._cli.serve import serve
from mlx_host._host.parser_selection import Auto, Parsers
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import (
    Configured,
    HostSettings,
    ModelSettings,
    flag_name,
    from_environment,
    layered,
    load_file,
    refuse_duplicates,
    variable_name,
)
from mlx_host.errors import UsageError
from mlx_host.parsing import Parser

# What tells one model from another, and so cannot be said for several at once.
IDENTITY = ("backend", "model", "served_model_name")


@dataclass(frozen=True)
class Meant:
    """What a command line says of the backends to be used, before its flags are known."""

    backend: str | None
    model_type: str | None
    config: Path | None
    old_spelling: bool

    @property
    def old(self) -> bool:
        """Whether this may be a command line of mlx-openai-server."""
        if self.backend is not None:
            return False
        if self.config is not None:
            return self.config.suffix in legacy_options.SUFFIXES
        return self.model_type is not None or self.old_spelling

    def backends(self, plugins: Plugins) -> list[str]:
        """Name the backends whose flags there are; UsageError if two things say it."""
        if self.backend is not None and self.model_type is not None:
            raise UsageError("--backend and --model-type say the same thing; give --backend alone.")
        name = self.backend or legacy_options.BACKENDS.get(self.model_type or "")
        name = name or from_environment(ModelSettings).get("backend")
        if name is not None:
            return [name]
        if self.config is not None:
            names = {table.get("backend") for table in _model_tables(_load(self.config, plugins)[0])}
            return sorted(name for name in names if isinstance(name, str))
        return [legacy_options.BACKENDS[legacy_options.DEFAULT_TYPE]] if self.old else []


def _load(config: Path, plugins: Plugins) -> tuple[dict[str, Any], list[str]]:
    """Read a configuration file, ours or mlx-openai-server's, and what is to be noted about it."""
    return (
        legacy_options.load_yaml(config, plugins)
        if config.suffix in legacy_options.SUFFIXES
        else (load_file(config), [])
    )


class RunCommand(click.RichCommand):
    """The command whose flags depend on the backend: those of `--backend NAME` come with `--backend NAME`.

    It reads mlx-openai-server's command lines as well; under that program's own `name` for it, all are.
    """

    def __init__(self, name: str = "run") -> None:
        self._config = click.RichOption(
            ["config", "--config"],
            type=click.Path(path_type=Path),
            help="A mlx-host.toml: these settings as keys, each model as a [[models]] table. Relative paths in it "
            f"start at the working directory. [env: {variable_name('config')}]",
            envvar=variable_name("config"),
            panel="Server",
        )
        super().__init__(
            name=name,
            hidden=name == legacy_options.COMMAND,
            callback=run,
            help="Load models and serve them.\n\nWith `--backend NAME --help`, that backend's own options are listed "
            "too. A switch `--x` has an opposite, `--no-x`.",
            params=[
                self._config,
                *flags.flags(HostSettings, "Server"),
                *flags.flags(ModelSettings, "Model"),
                legacy_options.type_flag(),
            ],
            # Opposites would double the longest names; the text says how they are made.
            context_settings={"rich_help_config": {"options_table_column_types": ["opt_primary", "metavar", "help"]}},
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        plugins: Plugins = ctx.obj
        meant = self._meant(ctx, args)
        backends = [plugins.backend(name) for name in meant.backends(plugins)]
        if len(backends) == 1:
            own = {option.name: option for option in flags.flags(ModelSettings, "Model", backends[0].settings)}
            self.params = [own.get(param.name, param) for param in self.params]
        for backend in backends:
            known = {param.name for param in self.params}
            for option in flags.flags(backend.options, f"Backend {backend.name}"):
                if option.name not in known:
                    self.params.append(option)
        fields = {param.name for param in self.params if param.name and param.name != "model_type"}
        if meant.old:
            self.params += legacy_options.flags({param.name for param in self.params})
        rest = super().parse_args(ctx, args)
        ctx.params, notes = legacy_options.modern(ctx.params, fields)
        if ctx.params["backend"] is None and meant.old and meant.config is None:
            ctx.params["backend"] = backends[0].name
        for note in notes:
            click.echo(f"Note: {note}", err=True)
        return rest

    def _meant(self, ctx: click.Context, args: Sequence[str]) -> Meant:
        """Look ahead in the arguments, then in the environment, for what decides which flags there are."""
        parser = self.make_parser(ctx)
        # The flags of a backend that is not known yet; should one take a value, that is skipped as an argument.
        parser.ignore_unknown_options = True
        ahead, _, _ = parser.parse_args(list(args))
        config = ahead.get("config") or self._config.resolve_envvar_value(ctx)
        return Meant(
            backend=ahead.get("backend"),
            model_type=ahead.get("model_type"),
            config=Path(config) if config else None,
            old_spelling=self.name == legacy_options.COMMAND
            or any(arg.partition("=")[0] == "--model-path" for arg in args),
        )


def _model_tables(file: Mapping[str, Any]) -> list[dict[str, Any]]:
    tables = file.get("models", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("The configuration file's models must be written as [[models]] tables.")
    return tables


@click.pass_context
def run(ctx: click.RichContext, /, config: Path | None, **params: Any) -> None:
    """Check everything that can be checked at once, then load and serve."""
    plugins: Plugins = ctx.obj
    file, notes = _load(config, plugins) if config is not None else ({}, [])
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    host = _host_settings(params, {key: value for key, value in file.items() if key != "models"}, config)
    if host.strict_plugins and plugins.faults():
        raise UsageError(f"--strict-plugins: {'; '.join(plugins.faults())}.")
    tables = _model_tables(file)
    if len(tables) > 1:
        _refuse_identity(params)
    models = [configure(plugins, params, table, _where(config, number)) for number, table in enumerate(tables or [{}])]
    refuse_duplicates([model.settings.name for model in models])
    serve(plugins, host, [(model, parsers(plugins, model.settings)) for model in models])


def _host_settings(params: Mapping[str, Any], file: Mapping[str, Any], config: Path | None) -> HostSettings:
    given = flags.given(params, HostSettings)
    if "log_file" in given:
        # Who names a file here wants it, whatever the environment or the file says about having none.
        given.setdefault("no_log_file", False)
    return layered(HostSettings, given, file, str(config))


def _where(config: Path | None, number: int) -> str:
    return f"[[models]] number {number + 1} of {config}" if config is not None else "the configuration file"


def _refuse_identity(params: Mapping[str, Any]) -> None:
    environment = from_environment(ModelSettings)
    for name in IDENTITY:
        if params.get(name) is not None or name in environment:
            said = flag_name(name) if params.get(name) is not None else variable_name(name)
            raise UsageError(f"{said} is for one model, but the configuration file has several.")


def configure(plugins: Plugins, params: Mapping[str, Any], table: Mapping[str, Any], where: str) -> Configured:
    """Settle one model's settings and its backend's options; UsageError says what is wrong with them."""
    own = {key: value for key, value in table.items() if key in ModelSettings.model_fields}
    given = flags.given(params, ModelSettings)
    backend = plugins.backend(layered(ModelSettings, given, own, where).backend)
    settings = layered(ModelSettings, given, {**backend.settings, **own}, where)
    rest = {key: value for key, value in table.items() if key not in own}
    options = layered(
        backend.options, flags.given(params, backend.options), rest, where, also=ModelSettings.model_fields
    )
    if settings.model is None:
        if backend.needs_model:
            raise UsageError(f"--model is missing: backend {backend.name!r} needs one.")
    else:
        plugins.source(settings.model)
    return Configured(settings, options)


def parsers(plugins: Plugins, settings: ModelSettings) -> Parsers:
    """Find the parsers that a model's settings name."""

    def find(setting: str, name: str | None) -> type[Parser] | None:
        if name == Auto.name:
            return Auto
        try:
            return plugins.parser(name) if name is not None else None
        except UsageError as error:
            raise UsageError(f"{flag_name(setting)}: {error}") from error

    both = find("parser", settings.parser)
    return Parsers(
        reasoning=find("reasoning_parser", settings.reasoning_parser) or both,
        tools=find("tool_call_parser", settings.tool_call_parser) or both,
        auto_tools=settings.enable_auto_tool_choice,
    )
