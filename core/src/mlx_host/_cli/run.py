"""`mlx-host run`: the command line of the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from mlx_host._cli import flags, migration
from mlx_host._cli.configuration import model_tables, read_file, read_settings
from mlx_host._cli.ineffective import settings_of_disabled_apis, unknown_variables
from mlx_host._cli.serve import serve
from mlx_host._host.catalog import Catalog
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import HOST, MODEL, api_names, environment_values, option_names, variable_name
from mlx_host.backend import Backend
from mlx_host.errors import MlxHostError

# The word for `run` in other servers.
ALIAS = "serve"
# The settings in `--help`, next to the options of the backend; `--help-all` has all of them.
COMMON_MODEL = ("backend", "model", "served_model_name", "parser", "max_concurrency")
COMMON_HOST = ("host", "port", "log_file", "log_level")
RULE = (
    "Each flag is also an environment variable, such as MLX_HOST_PORT for --port (lists and tables as JSON), and a key "
    "of the configuration file. `--no-x` turns a switch `--x` off."
)


class RunCommand(click.RichCommand):
    """The command `run`; its flags depend on the installed APIs and on the backend in its arguments.

    Command lines of mlx-openai-server are translated first. With `name` "launch", as in that program, every command
    line is translated.
    """

    def __init__(self, name: str = "run") -> None:
        self._config = flags.SettingOption(
            ["config", "--config"],
            type=click.Path(path_type=Path),
            metavar="PATH",
            help="Configuration file, usually mlx-host.toml, for all settings and for several models.",
            envvar=variable_name("config"),
            variable=variable_name("config"),
            panel="Server",
        )
        self._model = [*flags.flags(MODEL, "Model", common=COMMON_MODEL), migration.type_flag()]
        self._server = [self._config, *flags.flags(HOST, "Server", common=COMMON_HOST)]
        super().__init__(
            name=name,
            hidden=name != "run",
            callback=run,
            help=f"Load models and serve them.\n\n`--backend NAME --help` lists the options of a backend. {RULE}",
            params=[*self._model, *self._server, _help_all()],
            context_settings={"rich_help_config": {"options_table_column_types": ["opt_long_metavar", "help"]}},
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        plugins: Plugins = ctx.obj
        apis = [
            flag
            for name, api in plugins.apis.found.items()
            for flag in flags.flags(api_names(name, api.settings), "APIs", common=())
        ]
        self.params = [*self._model, *self._server, *apis, _help_all()]
        try:
            translation = self._translate(ctx, plugins, args)
            for note in () if ctx.resilient_parsing else translation.notes:
                click.echo(f"Note: {note}", err=True)
            backends = self._backends(ctx, plugins, translation.arguments)
        except MlxHostError:
            # The arguments of a shell completion may be incomplete.
            if not ctx.resilient_parsing:
                raise
            translation, backends = migration.Translation(args, []), []
        model = _with_defaults(self._model, backends[0]) if len(backends) == 1 else self._model
        self.params = [*_backend_flags(backends), *model, *self._server, *apis, _help_all()]
        return super().parse_args(ctx, translation.arguments)

    def format_help(self, ctx: click.RichContext, formatter: click.RichHelpFormatter) -> None:  # type: ignore[override]  # as in RichCommand
        """Describe the options of the backend and the common settings; with `--help-all`, everything."""
        if not ctx.meta.get(flags.HELP_ALL):
            for param in self.params:
                if isinstance(param, flags.SettingOption) and param.advanced:
                    param.hidden = True
        formatter.option_panel_class = flags.OptionPanel
        super().format_help(ctx, formatter)

    def _translate(self, ctx: click.Context, plugins: Plugins, args: Sequence[str]) -> migration.Translation:
        def fields(backend: str | None, config: Path | None) -> set[str]:
            backends = [backend] if backend is not None else _backends_of_file(config, plugins)
            options = (plugins.backend(name).options.model_fields for name in backends)
            return {*HOST.schema.model_fields, *MODEL.schema.model_fields}.union(*options)

        values = {flag for param in self.params if _takes_value(param) for flag in param.opts}
        return migration.translate(
            args,
            takes_value=values.__contains__,
            fields_of=fields,
            backend=_environment_backend(),
            config=self._environment_config(ctx),
            legacy=self.name == migration.COMMAND,
        )

    def _backends(self, ctx: click.Context, plugins: Plugins, args: Sequence[str]) -> list[Backend[Any]]:
        """Find the backends that are used in the arguments, the environment or the configuration file."""
        parser = self.make_parser(ctx)
        # The flags of the backend are not known yet; their values are parsed as arguments.
        parser.ignore_unknown_options = True
        ahead, _, _ = parser.parse_args(list(args))
        name = ahead.get("backend") or _environment_backend()
        config = Path(ahead["config"]) if ahead.get("config") else self._environment_config(ctx)
        return [plugins.backend(name) for name in ([name] if name else _backends_of_file(config, plugins))]

    def _environment_config(self, ctx: click.Context) -> Path | None:
        value = self._config.resolve_envvar_value(ctx)
        return Path(value) if value else None


def _help_all() -> click.Option:
    """Create the flag `--help-all`."""

    def show(ctx: click.RichContext, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            ctx.meta[flags.HELP_ALL] = True
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()

    return click.RichOption(
        ["--help-all"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show all flags, with their environment variables, and exit.",
        panel="Options",
    )


def _with_defaults(params: Sequence[click.Parameter], backend: Backend[Any]) -> list[click.Parameter]:
    """Replace the defaults of the model settings in the help texts by those of the backend."""
    own = {option.name: option for option in flags.flags(MODEL, "Model", backend.settings, common=COMMON_MODEL)}
    return [own.get(param.name, param) for param in params]


def _backend_flags(backends: Sequence[Backend[Any]]) -> list[click.Option]:
    """Create the flags of all backends; of several flags with the same name, the first is used."""
    found: dict[str | None, click.Option] = {}
    for backend in backends:
        for option in flags.flags(option_names(backend.options), f"Backend {backend.name}"):
            found.setdefault(option.name, option)
    return list(found.values())


def _takes_value(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and not param.is_flag and not param.count


def _environment_backend() -> str | None:
    _, backend = environment_values(MODEL).get("backend", ("", None))
    return str(backend) if backend is not None else None


def _backends_of_file(config: Path | None, plugins: Plugins) -> list[str]:
    if config is None:
        return []
    names = {table.get("backend") for table in model_tables(read_file(config, plugins)[0])}
    return sorted(name for name in names if isinstance(name, str))


@click.pass_context
def run(ctx: click.RichContext, /, config: Path | None, **params: Any) -> None:
    """Validate the settings, then load the models and serve them."""
    plugins: Plugins = ctx.obj
    file: Mapping[str, Any] = {}
    if config is not None:
        file, notes = read_file(config, plugins)
        for note in notes:
            click.echo(f"Note: {note}", err=True)
    settings = read_settings(plugins, params, file, config)
    for warning in (
        *unknown_variables(plugins, ctx.find_root().command),
        *settings_of_disabled_apis(plugins, params, file, config, settings.host.disable_api),
    ):
        click.echo(f"Warning: {warning}", err=True)
    serve(plugins, settings, Catalog.from_settings(settings, plugins))
