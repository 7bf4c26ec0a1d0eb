"""`mlx-host run`: layers of settings, and errors that are found before anything starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest
from click.testing import CliRunner
from mlx_host import hookimpl
from mlx_host._cli import build, builtin_commands, run
from mlx_host._host.catalog import Catalog, ModelSpec
from mlx_host._host.parser_selection import AutoParser, ParserSelection
from mlx_host._plugins import sources
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import HostSettings, ModelConfig, Settings
from mlx_host.backend import Backend, LoadContext, Model, Options
from pydantic import Field, field_validator, model_validator


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class VariedOptions(Options):
    """Every type of field that a plugin can declare."""

    count: int = 1
    ratio: float | None = None
    switch: bool = False
    on: bool = True
    no_cache: bool = False
    folder: Path | None = None
    names: list[str] = Field(default_factory=list)
    sizes: tuple[int, ...] = ()
    kinds: set[str] = Field(default_factory=set)
    several: Sequence[float] = ()
    unique: Set[str] = frozenset()
    weights: dict[str, float] = Field(default_factory=dict)
    mode: Literal["fast", "exact"] = "fast"
    bits: Literal[4, 8] | None = None
    level: Annotated[int, Field(ge=0, le=9)] = 5
    either: int | str = 0
    colour: Colour = Colour.RED
    even: int = 2

    @field_validator("even")
    @classmethod
    def _is_even(cls, even: int) -> int:
        if even % 2:
            raise ValueError(f"{even} is odd")
        return even


class OtherOptions(Options):
    depth: int
    count: str = ""

    @model_validator(mode="after")
    def _fits(self) -> OtherOptions:
        if self.depth > 100:
            raise ValueError("MLX cannot go that deep")
        return self


def load(load: LoadContext[Any]) -> Model:
    raise AssertionError("not loaded in these tests")


@hookimpl
def register_backends() -> list[Backend[Any]]:
    varied = Backend("varied", load, VariedOptions, needs_model=False)
    return [varied, Backend("other", load, OtherOptions, needs_model=False), Backend("needy", load, Options)]


@dataclass
class Start:
    """The server that `run` would start."""

    all: Settings
    specs: list[ModelSpec]

    @property
    def host(self) -> HostSettings:
        return self.all.host

    @property
    def models(self) -> Sequence[ModelConfig]:
        return self.all.models

    @property
    def options(self) -> Any:
        (model,) = self.models
        return options_of(model)

    @property
    def settings(self) -> Any:
        (model,) = self.models
        return model.settings


def options_of(model: ModelConfig) -> Any:
    """A model's options as its process receives them."""
    schemas: dict[str, type[Options]] = {"varied": VariedOptions, "other": OtherOptions}
    schema = schemas[model.settings.backend]
    return schema.model_validate(json.loads(json.dumps(model.options)))


Run = Callable[..., Start]
RunRejected = Callable[..., str]


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str, Start | None]]:
    """Run `mlx-host run ARGS` until it would start the server."""
    starts: list[Start] = []

    def serve(plugins: Plugins, settings: Settings, catalog: Catalog) -> None:
        starts.append(Start(settings, list(catalog)))

    monkeypatch.setattr(run, "serve", serve)
    monkeypatch.chdir(tmp_path)

    def invoke(*args: str, env: dict[str, str] | None = None, toml: str | None = None) -> tuple[int, str, Start | None]:
        starts.clear()
        if toml is not None:
            (tmp_path / "mlx-host.toml").write_text(toml)
            args = ("--config", "mlx-host.toml", *args)
        varied = SimpleNamespace(register_backends=register_backends)
        plugins = Plugins({"varied": varied, "commands": builtin_commands, "sources": sources})
        result = CliRunner().invoke(build(plugins), ["run", *args], env=env, prog_name="mlx-host")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.stdout == ""
        return result.exit_code, result.stderr, starts[0] if starts else None

    return invoke


@pytest.fixture
def started(outcome: Callable[..., tuple[int, str, Start | None]]) -> Run:
    def invoke(*args: str, env: dict[str, str] | None = None, toml: str | None = None) -> Start:
        code, stderr, start = outcome(*args, env=env, toml=toml)
        assert (code, stderr) == (0, "")
        assert start is not None
        return start

    return invoke


@pytest.fixture
def rejected(outcome: Callable[..., tuple[int, str, Start | None]]) -> RunRejected:
    def invoke(*args: str, env: dict[str, str] | None = None, toml: str | None = None) -> str:
        code, stderr, start = outcome(*args, env=env, toml=toml)
        assert code == 2
        assert start is None
        first, *rest = stderr.splitlines()
        assert rest in ([], ["Try `mlx-host run --help`."]), stderr
        assert first.startswith("Error: ")
        return first.removeprefix("Error: ")

    return invoke


VARIED = ("--backend", "varied")
IN_FILE = '[[models]]\nbackend = "varied"\n'


def test_defaults(started: Run) -> None:
    start = started(*VARIED)
    assert start.host == HostSettings()
    assert start.host.port == 8000
    assert start.host.log_file is None
    assert start.options.model_dump(mode="json") == VariedOptions().model_dump(mode="json")
    assert (start.settings.name, start.settings.queue_size) == ("varied", 100)


def test_precedence_is_flag_environment_file_default(started: Run) -> None:
    toml = "port = 1\n" + IN_FILE + "queue_size = 1\ncount = 11\n"
    env = {"MLX_HOST_PORT": "2", "MLX_HOST_QUEUE_SIZE": "2", "MLX_HOST_COUNT": "12"}
    flags = ["--port", "3", "--queue-size", "3", "--count", "13"]

    def effective(start: Start) -> tuple[int, int, int]:
        return start.host.port, start.settings.queue_size, start.options.count

    assert effective(started(*VARIED)) == (8000, 100, 1)
    assert effective(started(toml=toml)) == (1, 1, 11)
    assert effective(started(toml=toml, env=env)) == (2, 2, 12)
    assert effective(started(*flags, toml=toml, env=env)) == (3, 3, 13)
    assert effective(started(*VARIED, *flags)) == (3, 3, 13)


def test_options_of_every_type_as_flags(started: Run) -> None:
    given = "--count 3 --ratio 0.5 --switch --no-on --no-cache --folder a/b --names x --names y --sizes 1 --sizes 2"
    more = "--kinds k --several 1.5 --unique u --weights a=1.5 --weights b=2 --mode exact --bits 8 --level 9"
    rest = "--either text --colour blue --even 4"
    assert started(*VARIED, *f"{given} {more} {rest}".split()).options == VariedOptions(
        count=3,
        ratio=0.5,
        switch=True,
        on=False,
        no_cache=True,
        folder=Path("a/b"),
        names=["x", "y"],
        sizes=(1, 2),
        kinds={"k"},
        several=[1.5],
        unique={"u"},
        weights={"a": 1.5, "b": 2.0},
        mode="exact",
        bits=8,
        level=9,
        either="text",
        colour=Colour.BLUE,
        even=4,
    )


def test_options_of_every_type_from_the_environment(started: Run) -> None:
    env = {
        "COUNT": "3",
        "RATIO": "0.5",
        "SWITCH": "true",
        "ON": "0",
        "NO_CACHE": "yes",
        "FOLDER": "a/b",
        "NAMES": '["x"]',
        "SIZES": "[1, 2]",
        "KINDS": '["k"]',
        "SEVERAL": "[1.5]",
        "UNIQUE": '["u"]',
        "WEIGHTS": '{"a": 1.5}',
        "MODE": "exact",
        "BITS": "4",
        "LEVEL": "0",
        "EITHER": "text",
        "COLOUR": "blue",
    }
    options = started(*VARIED, env={f"MLX_HOST_{key}": value for key, value in env.items()}).options
    assert options == VariedOptions(
        count=3,
        ratio=0.5,
        switch=True,
        on=False,
        no_cache=True,
        folder=Path("a/b"),
        names=["x"],
        sizes=(1, 2),
        kinds={"k"},
        several=[1.5],
        unique={"u"},
        weights={"a": 1.5},
        mode="exact",
        bits=4,
        level=0,
        either="text",
        colour=Colour.BLUE,
    )


def test_options_of_every_type_in_the_file(started: Run) -> None:
    keys = """
count = 3
ratio = 1
switch = true
on = false
folder = "a/b"
names = ["x"]
sizes = [1, 2]
mode = "exact"
bits = 8
either = "text"
colour = "blue"
[models.weights]
a = 1.5
"""
    options = started(toml=IN_FILE + keys).options
    assert (options.count, options.ratio, options.switch, options.on) == (3, 1.0, True, False)
    assert (options.folder, options.names, options.sizes, options.mode) == (Path("a/b"), ["x"], (1, 2), "exact")
    assert (options.bits, options.either, options.colour, options.weights) == (8, "text", Colour.BLUE, {"a": 1.5})


def test_a_negated_flag_overrides_the_environment(started: Run) -> None:
    env = {"MLX_HOST_SWITCH": "1", "MLX_HOST_NO_CACHE": "1", "MLX_HOST_ON": "0"}
    options = started(*VARIED, env=env).options
    assert (options.switch, options.no_cache, options.on) == (True, True, False)
    options = started(*VARIED, "--no-switch", "--cache", "--on", env=env).options
    assert (options.switch, options.no_cache, options.on) == (False, False, True)


def test_lists_replace_and_tables_are_merged(started: Run) -> None:
    toml = IN_FILE + 'names = ["file"]\nenv = {A = "file", B = "file", C = "file"}\nweights = {x = 1}\n'
    env = {"MLX_HOST_ENV": '{"B": "variable", "C": "variable"}', "MLX_HOST_NAMES": '["variable"]'}
    start = started("--env", "C=flag=1", "--env", "D=", "--names", "flag", "--weights", "y=2", toml=toml, env=env)
    assert start.settings.env == {"A": "file", "B": "variable", "C": "flag=1", "D": ""}
    assert start.options.names == ["flag"]
    assert start.options.weights == {"x": 1.0, "y": 2.0}


def test_an_empty_variable_is_ignored(started: Run) -> None:
    env = {"MLX_HOST_PORT": "", "MLX_HOST_PARSER": "", "MLX_HOST_CONFIG": "", "MLX_HOST_NAMES": ""}
    start = started(*VARIED, env=env)
    assert (start.host.port, start.settings.parser, start.options.names) == (8000, None, [])


def test_the_configuration_file_can_be_named_by_the_environment(started: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.toml").write_text(IN_FILE)
    start = started("--count", "5", env={"MLX_HOST_CONFIG": "elsewhere.toml"})
    assert start.options.count == 5
    (tmp_path / "flag.toml").write_text('[[models]]\nbackend = "other"\ndepth = 1\n')
    start = started("--config=flag.toml", "--depth", "7", env={"MLX_HOST_CONFIG": "elsewhere.toml"})
    assert start.options.depth == 7


@pytest.mark.parametrize(
    "args",
    [
        ["--backend", "varied", "--count", "5"],
        ["--backend=varied", "--count=5"],
        ["--count", "5", "--backend", "varied"],
        ["--names", "--backend=no-backend-but-a-name", "--count", "5", "--backend", "varied"],
        ["--port", "0", "--count=5", "--backend", "other", "--backend", "varied"],
        ["--served-model-name", "--backend", "--count", "5", "--backend", "varied"],
    ],
    ids=" ".join,
)
def test_a_backends_flags_can_come_before_the_backend(started: Run, args: list[str]) -> None:
    assert started(*args).options.count == 5


def test_the_backend_can_come_from_the_environment_or_the_file(started: Run) -> None:
    assert started("--count", "5", env={"MLX_HOST_BACKEND": "varied"}).options.count == 5
    assert started("--count", "5", toml=IN_FILE).options.count == 5
    start = started("--backend", "varied", "--count", "5", toml='[[models]]\nbackend = "other"\n')
    assert start.options.count == 5


def test_several_models_have_separate_settings(started: Run) -> None:
    toml = """
port = 9
[[models]]
backend = "varied"
served_model_name = "one"
count = 1
queue_size = 1
[[models]]
backend = "other"
depth = 2
"""
    start = started("--max-concurrency", "3", "--level", "7", toml=toml)
    assert start.host.port == 9
    one, two = start.models
    assert (one.settings.name, one.settings.queue_size, one.settings.max_concurrency) == ("one", 1, 3)
    assert (options_of(one).count, options_of(one).level) == (1, 7)
    assert (two.settings.name, two.settings.queue_size, two.settings.max_concurrency) == ("other", 100, 3)
    assert options_of(two).depth == 2


SEVERAL = '[[models]]\nbackend = "varied"\n[[models]]\nbackend = "other"\ndepth = 1\n'


@pytest.mark.parametrize(
    ("args", "env", "name"),
    [
        (["--backend", "varied"], {}, "--backend"),
        (["--model-path", "x"], {}, "--model"),
        (["--served-model-name", "x"], {}, "--served-model-name"),
        ([], {"MLX_HOST_MODEL": "x"}, "MLX_HOST_MODEL"),
    ],
)
def test_settings_of_one_model_are_rejected_for_several(
    rejected: RunRejected, args: list[str], env: dict[str, str], name: str
) -> None:
    output = rejected(*args, toml=SEVERAL, env=env)
    assert name in output


def test_duplicate_model_names_are_rejected(rejected: RunRejected) -> None:
    output = rejected(toml=IN_FILE + IN_FILE)
    assert output == "Duplicate model name 'varied'; set a different served_model_name for one of the models."


def test_default_model_names(started: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "small").mkdir(parents=True)
    assert started(*VARIED).settings.name == "varied"
    assert started(*VARIED, "--model", "models/small/").settings.name == "small"
    assert started(*VARIED, "--model", "models/../models/small").settings.name == "small"
    assert started(*VARIED, "--model", "org/name").settings.name == "org/name"
    assert started(*VARIED, "--model", "org/name", "--served-model-name", "n").settings.name == "n"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert started(*VARIED, "--model", "~/models/small").settings.name == "small"


def test_parser_sets_both_parsers(started: Run) -> None:
    (model,) = started(*VARIED, "--parser", "Qwen3").specs
    reasoning, tools = model.parsers.reasoning, model.parsers.tools
    assert reasoning is not None
    assert reasoning.name == "qwen3"
    assert tools is reasoning
    (model,) = started(*VARIED, "--tool-call-parser", "qwen3-moe").specs
    assert model.parsers == ParserSelection(reasoning=None, tools=reasoning)
    (model,) = started(*VARIED, "--reasoning-parser", "qwen3").specs
    assert model.parsers == ParserSelection(reasoning=reasoning, tools=None)
    (model,) = started(*VARIED, "--parser", "auto").specs
    assert model.parsers == ParserSelection(reasoning=AutoParser, tools=AutoParser)


def test_a_log_file_flag_overrides_no_log_file(started: Run) -> None:
    assert started(*VARIED, "--no-log-file").host.no_log_file
    env = {"MLX_HOST_NO_LOG_FILE": "1"}
    assert started(*VARIED, env=env).host.no_log_file
    start = started(*VARIED, "--log-file", "x.log", env=env)
    assert (start.host.no_log_file, start.host.log_file) == (False, Path("x.log"))
    assert started(*VARIED, "--log-file", "x.log", "--no-log-file").host.no_log_file


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--backend", "needy"], ["--model is missing; backend 'needy' requires it"]),
        (["--backend", "vary"], ["Unknown backend 'vary'. Installed backends: ", "Did you mean 'varied'?"]),
        (["--backend"], ["Option '--backend' requires an argument"]),
        ([*VARIED, "--port", "http"], ["'--port'", "'http' is not a valid integer"]),
        ([*VARIED, "--port", "70000"], ["--port: ", "at most 65535, got 70000"]),
        ([*VARIED, "--log-level", "loud"], ["'--log-level'", "'loud' is not one of", "'debug'"]),
        ([*VARIED, "--level", "10"], ["--level: ", "at most 9, got 10"]),
        ([*VARIED, "--mode", "slow"], ["'--mode'", "'slow' is not one of", "'exact'"]),
        ([*VARIED, "--bits", "5"], ["'--bits'", "'5' is not one of", "'8'"]),
        ([*VARIED, "--even", "3"], ["--even: 3 is odd."]),
        ([*VARIED, "--colour", "green"], ["--colour: ", "got 'green'"]),
        ([*VARIED, "--weights", "a"], ["'--weights'", "'a' is not KEY=VALUE"]),
        ([*VARIED, "--weights", "a=b"], ["--weights.a: ", "got 'b'"]),
        ([*VARIED, "--env", "=x"], ["'--env'", "'=x' is not KEY=VALUE"]),
        ([*VARIED, "--max-concurrency", "0"], ["--max-concurrency: ", "got 0"]),
        ([*VARIED, "--queue-timeout", "0"], ["--queue-timeout: ", "got 0.0"]),
        ([*VARIED, "--model", ""], ["--model: ", "empty"]),
        ([*VARIED, "--model", "no such model"], ["--model 'no such model': no such folder or file"]),
        ([*VARIED, "--model", "x" * 5000], ["no such folder or file"]),
        ([*VARIED, "--parser", "klingon"], ["--parser: Unknown parser 'klingon'. Installed parsers: ", "qwen3"]),
        ([*VARIED, "--tool-call-parser", "qwen33"], ["--tool-call-parser: Unknown parser", "Did you mean 'qwen3'?"]),
        ([*VARIED, "--reasoning-parser", "x"], ["--reasoning-parser: Unknown parser 'x'"]),
        ([*VARIED, "--depth", "1"], ["No such option '--depth'"]),
        ([*VARIED, "--count=1", "stray"], ["unexpected extra argument", "stray"]),
        (["--backend", "other"], ["--depth is required; set it on the command line, as MLX_HOST_DEPTH or in"]),
        (["--backend", "other", "--depth", "101"], ["MLX cannot go that deep."]),
        (["--backend", "lm", "--model", ".", "--chat-template-file", "x"], ["--chat-template-file: no such file"]),
        ([*VARIED, "--config", "nowhere.toml"], ["--config 'nowhere.toml': no such file."]),
        (["--config", "."], ["--config '.' cannot be read: "]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_an_invalid_flag_is_a_one_line_error_that_names_it(
    rejected: RunRejected, args: list[str], parts: list[str]
) -> None:
    output = rejected(*args)
    assert [part for part in parts if part not in output] == [], output


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        ("PORT", "http", ["MLX_HOST_PORT: ", "must be an integer", "got 'http'"]),
        ("STRICT_PLUGINS", "perhaps", ["MLX_HOST_STRICT_PLUGINS: ", "got 'perhaps'"]),
        ("LOG_LEVEL", "loud", ["MLX_HOST_LOG_LEVEL: ", "'debug'", "got 'loud'"]),
        ("ENV", "A=b", ["MLX_HOST_ENV must be a JSON object", "(got 'A=b')"]),
        ("ENV", "[1]", ["MLX_HOST_ENV: ", "must be an object", "got [1]"]),
        ("ENV", '{"A": 1}', ["MLX_HOST_ENV.A: ", "must be a string", "got 1"]),
        ("ENV", '{"A=B": "1"}', ["MLX_HOST_ENV: 'A=B' with the value '1' is not a valid environment variable"]),
        ("NAMES", "[a,b", ["MLX_HOST_NAMES must be a JSON array", "(got '[a,b')"]),
        ("SIZES", "1, x", ["MLX_HOST_SIZES[1]: ", "got 'x'"]),
        ("SIZES", '[1, "x"]', ["MLX_HOST_SIZES[1]: ", "got 'x'"]),
        ("BITS", "5", ["MLX_HOST_BITS: ", "4 or 8", "got '5'"]),
        ("COUNT", "1.5", ["MLX_HOST_COUNT: ", "got '1.5'"]),
        ("BACKEND", "nope", ["Unknown backend 'nope'"]),
        ("CONFIG", "nowhere.toml", ["--config 'nowhere.toml': no such file."]),
    ],
)
def test_an_invalid_variable_is_a_one_line_error_that_names_it(
    rejected: RunRejected, variable: str, value: str, parts: list[str]
) -> None:
    args = () if variable in ("BACKEND", "CONFIG") else VARIED
    output = rejected(*args, env={f"MLX_HOST_{variable}": value})
    assert [part for part in parts if part not in output] == [], output


FIRST = "[[models]] number 1 of mlx-host.toml"


@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        ("port = ", ["--config 'mlx-host.toml' cannot be read: Invalid value"]),
        ("port = 1\n= 2", ["cannot be read: ", "line 2"]),
        ("prot = 1\n" + IN_FILE, ["mlx-host.toml has an unknown key 'prot' (did you mean 'port'?)."]),
        ("zzz = 1\n" + IN_FILE, ["mlx-host.toml has an unknown key 'zzz' (available: apis, disable_api, host, "]),
        ('backend = "varied"', ["mlx-host.toml has an unknown key 'backend' (it belongs in a [[models]] table)."]),
        ('port = "http"\n' + IN_FILE, ["'port' in mlx-host.toml: ", "must be an integer", "got 'http'"]),
        ("log_file = 5\n" + IN_FILE, ["'log_file' in mlx-host.toml: ", "got 5"]),
        ("models = 5", ["models of the configuration file must be [[models]] tables"]),
        ('[models]\nbackend = "varied"', ["models of the configuration file must be [[models]] tables"]),
        ("models = [1]", ["models of the configuration file must be [[models]] tables"]),
        ("[[models]]", ["--backend is required", f"in {FIRST}"]),
        ("models = []", ["--backend is required", "in a [[models]] table of mlx-host.toml"]),
        ("[[models]]\nbackend = 5", [f"'backend' in {FIRST}: ", "got 5"]),
        ('[[models]]\nbackend = "nope"', ["Unknown backend 'nope'"]),
        (IN_FILE + "cuont = 1", [f"{FIRST} has an unknown key 'cuont' (did you mean 'count'?)."]),
        (IN_FILE + "modle = 1", [f"{FIRST} has an unknown key 'modle' (did you mean 'model'?)."]),
        (IN_FILE + "zzz = 1", [f"{FIRST} has an unknown key 'zzz' (available: backend, bits, "]),
        (IN_FILE + 'count = "x"', [f"'count' in {FIRST}: ", "got 'x'"]),
        (IN_FILE + "sizes = [1, 'x']", [f"'sizes[1]' in {FIRST}: ", "got 'x'"]),
        (IN_FILE + "env = {A = 1}", [f"'env.A' in {FIRST}: ", "must be a string", "got 1"]),
        (IN_FILE + "max_concurrency = 0", [f"'max_concurrency' in {FIRST}: "]),
        (IN_FILE + "even = 3", [f"'even' in {FIRST}: 3 is odd."]),
        (IN_FILE + 'parser = "klingon"', ["Unknown parser 'klingon'"]),
        (SEVERAL + 'env = "x"', ["'env' in [[models]] number 2 of mlx-host.toml: "]),
    ],
)
def test_an_invalid_file_is_a_one_line_error_that_names_the_key(
    rejected: RunRejected, toml: str, parts: list[str]
) -> None:
    output = rejected(toml=toml)
    assert [part for part in parts if part not in output] == [], output


def test_a_binary_file_is_rejected(rejected: RunRejected, tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert rejected("--config", "binary.toml").startswith("--config 'binary.toml' cannot be read: ")


def test_of_two_invalid_layers_the_effective_one_is_named(rejected: RunRejected) -> None:
    toml = IN_FILE + 'env = {A = "1", B = 2}\n'
    output = rejected("--env", "A=3", toml=toml, env={"MLX_HOST_ENV": '{"C": 4}'})
    assert f"'env.B' in {FIRST}: " in output
    assert "MLX_HOST_ENV.C: " in output
    assert "--env" not in output


def test_every_invalid_value_is_named(rejected: RunRejected) -> None:
    output = rejected(*VARIED, "--port", "70000", env={"MLX_HOST_LOG_LEVEL": "x"})
    assert "--port: " in output
    assert "; MLX_HOST_LOG_LEVEL: " in output


def test_options_sent_to_the_models_process_are_equal(started: Run) -> None:
    (spec,) = started(*VARIED, "--kinds", "k", "--folder", "x", "--colour", "blue", "--bits", "4").specs
    values = json.loads(json.dumps(spec.options))
    assert VariedOptions.model_validate(values).model_dump(mode="json") == values
    assert (values["folder"], values["bits"], values["colour"]) == ("x", 4, "blue")
