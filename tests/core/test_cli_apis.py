"""Settings of APIs: flags, variables, tables and former names; enabling and disabling APIs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from mlx_host import hookimpl
from mlx_host._cli import build, builtin_commands, run
from mlx_host._host.catalog import Catalog
from mlx_host._plugins import sources
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import Settings
from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.backend import Backend, LoadContext, Model, Options
from pydantic import Field


class StoreSettings(ApiSettings):
    """API settings with former names, like some of core's."""

    legacy_names: ClassVar[Mapping[str, str]] = {"old_store": "path", "old_jobs": "jobs", "old_on": "enabled"}

    path: Path | None = Field(None, description="Where.")
    jobs: int = Field(10, ge=1, description="How many.")
    enabled: bool = Field(True, description="Whether.")
    tags: list[str] = Field(default_factory=list, description="Tags.")


class NeedySettings(ApiSettings):
    token: str = Field(description="Required.")


def load(load: LoadContext[Any]) -> Model:
    raise AssertionError("not loaded in these tests")


def create(service: Service, settings: ApiSettings) -> Endpoints:
    raise AssertionError("not served in these tests")


def api(name: str, settings: type[ApiSettings] = ApiSettings) -> Api[Any]:
    return Api(name=name, settings=settings, create=create, summary=f"the API {name}")


def plugin(*apis: Api[Any]) -> SimpleNamespace:
    @hookimpl
    def register_apis() -> tuple[Api[Any], ...]:
        return apis

    return SimpleNamespace(register_apis=register_apis)


@hookimpl
def register_backends() -> list[Backend[Any]]:
    return [Backend("varied", load, Options, needs_model=False)]


STORE = plugin(api("store", StoreSettings), api("text-to-speech"))
Outcome = tuple[int, str, Settings | None]
Invoke = Callable[..., Outcome]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Run `mlx-host run --backend varied ARGS` until it would start the server."""
    starts: list[Settings] = []

    def serve(plugins: Plugins, settings: Settings, catalog: Catalog) -> None:
        starts.append(settings)

    monkeypatch.setattr(run, "serve", serve)
    monkeypatch.chdir(tmp_path)

    def invoke(*args: str, toml: str = "", env: dict[str, str] | None = None, **more: object) -> Outcome:
        starts.clear()
        Path("mlx-host.toml").write_text(toml)
        backend = SimpleNamespace(register_backends=register_backends)
        core = {"commands": builtin_commands, "sources": sources, "backend": backend}
        plugins = Plugins({**core, **(more or {"store": STORE})}, installed=[])
        result = CliRunner().invoke(
            build(plugins),
            ["run", "--config", "mlx-host.toml", "--backend", "varied", *args],
            env=env,
            prog_name="mlx-host",
            terminal_width=120,
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output, starts[0] if starts else None

    return invoke


def store(outcome: Outcome) -> StoreSettings:
    code, output, settings = outcome
    assert (code, output) == (0, "")
    assert settings is not None
    found = settings.apis["store"]
    assert isinstance(found, StoreSettings)
    return found


TABLE = '[apis.store]\npath = "table"\njobs = 3\n'
VARIABLES = {"MLX_HOST_STORE_PATH": "variable", "MLX_HOST_STORE_JOBS": "4", "MLX_HOST_STORE_TAGS": '["x"]'}


def test_flags_override_variables_which_override_the_table(invoke: Invoke) -> None:
    assert store(invoke()) == StoreSettings()
    assert store(invoke(toml=TABLE)) == StoreSettings(path=Path("table"), jobs=3)
    assert store(invoke(toml=TABLE, env=VARIABLES)) == StoreSettings(path=Path("variable"), jobs=4, tags=["x"])
    flags = ("--store-path", "flag", "--store-jobs=5", "--no-store-enabled", "--store-tags=a", "--store-tags=b")
    code, output, _ = invoke(*flags)
    assert "'--no-store-enabled'" in output
    assert code == 2
    flags = ("--store-path", "flag", "--store-jobs=5", "--store-no-enabled", "--store-tags=a", "--store-tags=b")
    expected = StoreSettings(path=Path("flag"), jobs=5, enabled=False, tags=["a", "b"])
    assert store(invoke(*flags, toml=TABLE, env=VARIABLES)) == expected


def test_former_names_work_in_every_layer_with_lower_precedence(invoke: Invoke) -> None:
    toml = 'old_store = "old"\nold_jobs = 2\nold_on = false\n'
    assert store(invoke(toml=toml)) == StoreSettings(path=Path("old"), jobs=2, enabled=False)
    assert store(invoke(toml=toml + TABLE)) == StoreSettings(path=Path("table"), jobs=3, enabled=False)
    old = {"MLX_HOST_OLD_STORE": "old", "MLX_HOST_OLD_JOBS": "6"}
    assert store(invoke(toml=TABLE, env=old)) == StoreSettings(path=Path("old"), jobs=6)
    assert store(invoke(env={**old, "MLX_HOST_STORE_JOBS": "7"})) == StoreSettings(path=Path("old"), jobs=7)
    flags = ("--old-store", "flag", "--old-jobs", "8", "--no-old-on")
    assert store(invoke(*flags, env=old)) == StoreSettings(path=Path("flag"), jobs=8, enabled=False)


def test_an_api_name_with_a_hyphen(invoke: Invoke) -> None:
    for given in (
        {"env": {"MLX_HOST_TEXT_TO_SPEECH_PORT": "9"}},
        {"toml": "[apis.text-to-speech]\nport = 9\n"},
    ):
        _, _, settings = invoke(**given)
        assert settings is not None
        assert settings.apis["text-to-speech"].port == 9
    _, _, settings = invoke("--text-to-speech-port", "9")
    assert settings is not None
    assert settings.apis["text-to-speech"].port == 9


def test_disabled_apis_are_left_out(invoke: Invoke) -> None:
    for outcome in (
        invoke("--disable-api", "store", "--disable-api", "text-to-speech"),
        invoke(toml='disable_api = ["store", "text-to-speech"]'),
        invoke(env={"MLX_HOST_DISABLE_API": '["store", "text-to-speech"]'}),
        invoke(env={"MLX_HOST_DISABLE_API": "store, text-to-speech"}),
        invoke("--disable-api=store,text-to-speech"),
        invoke(toml='disable_api = ["store,text-to-speech"]'),
    ):
        code, output, settings = outcome
        assert (code, output) == (0, "")
        assert settings is not None
        assert settings.apis == {}


def test_a_disabled_api_needs_no_settings_and_accepts_former_names(invoke: Invoke) -> None:
    needy = plugin(api("needy", NeedySettings))
    code, output, _ = invoke(needy=needy)
    assert code == 2
    assert all(name in output for name in ("--needy-token", "MLX_HOST_NEEDY_TOKEN", "[apis.needy]"))
    assert invoke("--disable-api", "needy", needy=needy)[0] == 0
    assert invoke("--disable-api", "store", toml="old_jobs = 0\n" + TABLE)[0] == 0


@pytest.mark.parametrize(
    ("args", "toml", "env", "named"),
    [
        (["--store-jobs", "5"], "", {}, "--store-jobs"),
        ([], TABLE, {}, "[apis.store] of mlx-host.toml"),
        ([], "old_jobs = 2\n", {}, "'old_jobs' of mlx-host.toml"),
        ([], "", VARIABLES, "MLX_HOST_STORE_PATH, MLX_HOST_STORE_JOBS, MLX_HOST_STORE_TAGS"),
    ],
)
def test_the_settings_of_a_disabled_api_are_named_in_a_warning(
    invoke: Invoke, args: list[str], toml: str, env: dict[str, str], named: str
) -> None:
    code, output, settings = invoke("--disable-api", "store", *args, toml=toml, env=env)
    assert code == 0
    assert settings is not None
    (line,) = output.splitlines()
    assert line.startswith("Warning: ")
    assert line.endswith(f": {named}.")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("MLX_HOST_PROT", "did you mean MLX_HOST_PORT?"),
        ("MLX_HOST_STORE_JOB", "did you mean MLX_HOST_STORE_JOBS?"),
        ("MLX_HOST_OLD_JOB", "did you mean MLX_HOST_OLD_JOBS?"),
        # The negation of a switch is a flag only.
        ("MLX_HOST_NO_STRICT", "did you mean MLX_HOST_STRICT?"),
        ("MLX_HOST_Q", "see `mlx-host run --help` for the names"),
    ],
)
def test_an_unknown_variable_is_named_in_a_warning(invoke: Invoke, variable: str, hint: str) -> None:
    code, output, settings = invoke(env={variable: "1"})
    assert code == 0
    assert settings is not None
    assert len(output.splitlines()) == 1
    assert all(fact in output for fact in (variable, hint))


def test_known_variables_cause_no_warning(invoke: Invoke) -> None:
    known = {"MLX_HOST_CACHE": "x", "MLX_HOST_CONFIG": "mlx-host.toml", "mlx_host_port": "1", "MLX_HOST_OLD_JOBS": "2"}
    assert invoke(env=known)[:2] == (0, "")


@pytest.mark.parametrize(
    ("args", "toml", "env", "message"),
    [
        (["--disable-api", "stroe"], "", {}, "--disable-api 'stroe': unknown API (did you mean 'store'?)."),
        (["--disable-api", "x"], "", {}, "--disable-api 'x': unknown API (available: store, text-to-speech)."),
        ([], "[apis.stor]\n", {}, "[apis.stor] of mlx-host.toml: unknown API 'stor' (did you mean 'store'?)."),
        ([], "[apis.store]\njob = 1\n", {}, "[apis.store] of mlx-host.toml has an unknown key 'job' (did you"),
        ([], "[apis.store]\njobs = 0\n", {}, "'jobs' in [apis.store] of mlx-host.toml: "),
        ([], "old_jobs = 0\n", {}, "'old_jobs' in mlx-host.toml: "),
        ([], "apis = 5\n", {}, "The API settings of the configuration file must be [apis.NAME] tables."),
        ([], "apis.store = 5\n", {}, "The API settings of the configuration file must be [apis.NAME] tables."),
        ([], "store_jobs = 5\n", {}, "mlx-host.toml has an unknown key 'store_jobs' ("),
        (["--store-jobs", "0"], "", {}, "--store-jobs: "),
        ([], "", {"MLX_HOST_STORE_JOBS": "0"}, "MLX_HOST_STORE_JOBS: "),
        ([], "", {"MLX_HOST_OLD_JOBS": "0"}, "MLX_HOST_OLD_JOBS: "),
        ([], "", {"MLX_HOST_STORE_TAGS": '["a"'}, "MLX_HOST_STORE_TAGS must be a JSON array"),
        ([], "", {"MLX_HOST_DISABLE_API": "stroe"}, "--disable-api 'stroe': unknown API (did you mean 'store'?)."),
        (["--disable-api=store,stroe"], "", {}, "--disable-api 'stroe': unknown API (did you mean 'store'?)."),
    ],
)
def test_an_invalid_setting_is_named_as_written(
    invoke: Invoke, args: list[str], toml: str, env: dict[str, str], message: str
) -> None:
    code, output, settings = invoke(*args, toml=toml, env=env)
    assert (code, settings) == (2, None)
    assert message in output
    assert len(output.splitlines()) == 1


def test_help_has_a_panel_for_apis(invoke: Invoke) -> None:
    code, output, _ = invoke("--help-all")
    assert code == 0
    panel = " ".join(output.partition("─ APIs ─")[2].partition("╰")[0].replace("│", " ").split())
    assert {"--store-path", "--old-store", "MLX_HOST_STORE_JOBS"} <= set(panel.split())
    assert "How many. [default: 10]" in panel
    assert "[default: on]" in panel
    assert "--text-to-speech-port" in panel


def test_an_api_that_two_plugins_register_is_an_error_that_names_both(invoke: Invoke) -> None:
    twins = {"one": plugin(api("twin")), "two": plugin(api("twin"))}
    code, output, settings = invoke(**twins)
    assert (code, settings) == (2, None)
    assert "'twin'" in output
    code, output, settings = invoke("--disable-api", "twin", **twins)
    assert (code, output) == (0, "")
    assert settings is not None
    assert settings.apis == {}
