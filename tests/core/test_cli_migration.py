"""Command lines and files of mlx-openai-server: how they are translated, and the notes about what has no effect."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mlx_host._cli import build, discover, run
from mlx_host._cli.migration import translate
from mlx_host._host.catalog import Catalog, ModelSpec
from mlx_host._settings import HostSettings, ModelConfig, Settings

# The command lines in that program's README, unchanged.
README = r"""
mlx-openai-server launch --model-path Darwin-36B-Opus-mlx-text-only-8bit --reasoning-parser qwen3_moe --tool-call-parser qwen3_coder --debug --served-model-name Darwin-36B-Opus

mlx-openai-server launch \
  --model-type lm \
  --model-path mlx-community/Qwen3-Coder-Next-4bit \
  --reasoning-parser qwen3_moe \
  --tool-call-parser qwen3_coder

mlx-openai-server launch \
  --model-type multimodal \
  --model-path <mlx-vlm-model>

mlx-openai-server launch \
  --model-type image-generation \
  --model-path <flux-or-qwen-image-model> \
  --config-name flux-dev \
  --quantize 8

mlx-openai-server launch \
  --model-type image-edit \
  --model-path <flux-or-qwen-image-edit-model> \
  --config-name flux-kontext-dev \
  --quantize 8

mlx-openai-server launch \
  --model-type embeddings \
  --model-path <embedding-model>

mlx-openai-server launch \
  --model-type whisper \
  --model-path mlx-community/whisper-large-v3-mlx

mlx-openai-server launch --config config.yaml

mlx-openai-server launch \
  --model-type lm \
  --model-path <model-path> \
  --context-length 8192 \
  --decode-concurrency 4 \
  --prompt-concurrency 1 \
  --prefill-step-size 512 \
  --max-tokens 2048 \
  --prompt-cache-size 1 \
  --max-bytes 2147483648 \
  --kv-bits 4 \
  --kv-group-size 64 \
  --quantized-kv-start 0

mlx-openai-server launch \
  --model-type lm \
  --model-path <model> \
  --tool-call-parser qwen3 \
  --reasoning-parser qwen3 \
  --enable-auto-tool-choice

mlx-openai-server launch \
  --model-type lm \
  --model-path <model> \
  --chat-template-file /path/to/template.jinja

mlx-openai-server launch \
  --model-type lm \
  --model-path <main-model> \
  --draft-model-path <smaller-draft-model> \
  --num-draft-tokens 4
"""  # noqa: E501  one of them is one line
README_YAML = """
server:
  host: "0.0.0.0"
  port: 8000
  log_level: INFO

models:
  - model_path: mlx-community/MiniMax-M2.5-4bit
    model_type: lm
    served_model_name: minimax
    tool_call_parser: minimax_m2
    reasoning_parser: minimax_m2

  - model_path: black-forest-labs/FLUX.2-klein-4B
    model_type: image-generation
    served_model_name: flux2-klein-4b
    config_name: flux2-klein-4b
    quantize: 4
    on_demand: true
    on_demand_idle_timeout: 120
"""
TUNED_YAML = """
models:
  - model_path: model
    model_type: lm
    context_length: 8192
    batch_completion_size: 4
    batch_prefill_size: 1
    batch_prefill_step_size: 512
    default_max_tokens: 2048
    prompt_cache_size: 1
    prompt_cache_max_bytes: 2147483648
    kv_bits: 4
    kv_group_size: 64
    quantized_kv_start: 0
"""


@dataclass
class Start:
    """The server that would be started, and the notes printed before it."""

    host: HostSettings
    models: Sequence[ModelConfig]
    specs: list[ModelSpec]
    notes: list[str]

    @property
    def options(self) -> Any:
        return SimpleNamespace(**self.models[0].options)

    @property
    def settings(self) -> Any:
        return self.models[0].settings


Invoke = Callable[..., tuple[Result, list[Start]]]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Run `mlx-host ARGS`, in a folder with a model and a template, until it would start the server."""
    starts: list[Start] = []

    def serve(plugins: object, settings: Settings, catalog: Catalog) -> None:
        starts.append(Start(settings.host, settings.models, list(catalog), []))

    monkeypatch.setattr(run, "serve", serve)
    monkeypatch.chdir(tmp_path)
    for folder in ("model", "Darwin-36B-Opus-mlx-text-only-8bit"):
        (tmp_path / folder).mkdir()
    (tmp_path / "template.jinja").write_text("{{ messages }}")

    def invoke(*args: str, env: dict[str, str] | None = None) -> tuple[Result, list[Start]]:
        starts.clear()
        result = CliRunner().invoke(build(discover()), args, env=env, prog_name="mlx-host")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result, starts

    return invoke


@pytest.fixture
def started(invoke: Invoke) -> Callable[..., Start]:
    def started(line: str | Sequence[str], env: dict[str, str] | None = None) -> Start:
        result, starts = invoke(*(line.split() if isinstance(line, str) else line), env=env)
        assert (result.exit_code, result.stdout) == (0, ""), result.stderr
        lines = result.stderr.splitlines()
        assert all(line.startswith("Note: ") for line in lines), lines
        starts[0].notes = [line.removeprefix("Note: ") for line in lines]
        return starts[0]

    return started


def command_lines() -> Iterator[list[str]]:
    """The arguments after the program's name, with the README's placeholders replaced by existing paths."""
    for line in README.strip().replace("\\\n", " ").split("\n\n"):
        program, *args = shlex.split(
            re.sub("<[^>]*>", "model", line).replace("/path/to/template.jinja", "template.jinja")
        )
        assert program == "mlx-openai-server"
        yield args


LINES = list(command_lines())


@pytest.mark.parametrize("args", LINES, ids=" ".join)
def test_each_command_line_of_its_readme_starts_the_model_it_names(
    started: Callable[..., Start], args: list[str]
) -> None:
    Path("config.yaml").write_text(README_YAML)
    under_its_own_name = started(args)
    as_run = started(["run", *args[1:]])
    assert (as_run.host, as_run.models, as_run.notes) == (
        under_its_own_name.host,
        under_its_own_name.models,
        under_its_own_name.notes,
    )
    if "--model-path" in args:
        assert as_run.settings.model == args[args.index("--model-path") + 1]
        kind = args[args.index("--model-type") + 1] if "--model-type" in args else "lm"
        image = ("image-generation", "image-edit")
        assert as_run.settings.backend == {"multimodal": "vlm", **dict.fromkeys(image, "flux")}.get(kind, kind)


def test_every_command_line_of_its_readme_is_tested() -> None:
    assert len(LINES) == README.count("mlx-openai-server launch") == 12


def test_renamed_flags_keep_their_values(started: Callable[..., Start]) -> None:
    start = started("run --model-path model --decode-concurrency 4 --max-bytes 1000 --debug --log-level INFO")
    assert (start.settings.max_concurrency, start.options.prompt_cache_bytes) == (4, 1000)
    # The new spelling wins.
    assert start.host.log_level == "info"
    assert started("run --model-path model --debug").host.log_level == "debug"
    assert started("run --model-path model --log-level CRITICAL").host.log_level == "critical"
    assert started("run --model-path model --decode-concurrency 4 --disable-batching").settings == (
        started("run --backend lm --model model --max-concurrency 1").settings
    )


def test_flags_without_effect_are_reported(started: Callable[..., Start]) -> None:
    start = started("run --model-type lm --model-path model --kv-bits 4 --draft-model-path x --seed 7")
    assert start.notes == [
        "--seed has no effect: set `seed` in the request instead.",
        "--draft-model-path has no effect: speculative decoding is not supported.",
        "--kv-bits has no effect: the KV cache is not quantized.",
    ]
    start = started("run --model-type whisper --model-path model --temperature 1")
    assert start.notes == ["--temperature has no effect: the backend has no such option."]


def test_its_configuration_file_is_accepted(started: Callable[..., Start]) -> None:
    Path("config.yaml").write_text(README_YAML)
    start = started("run --config config.yaml")
    assert (start.host.host, start.host.port, start.host.log_level) == ("0.0.0.0", 8000, "info")
    minimax, flux = start.models
    parsers = start.specs[0].parsers
    assert (minimax.settings.backend, minimax.settings.name) == ("lm", "minimax")
    assert parsers.tools is not None
    assert parsers.tools.name == "minimax"
    assert (flux.settings.backend, flux.settings.name) == ("flux", "flux2-klein-4b")
    assert (flux.options["task"], flux.options["quantize"]) == ("image-generation", 4)
    where = "of model number 2 of 'config.yaml' has no effect: every model is loaded at startup and stays loaded."
    assert start.notes[-2:] == [f"on_demand {where}", f"on_demand_idle_timeout {where}"]


def test_lora_lists_are_accepted(started: Callable[..., Start]) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        Path(name).write_bytes(b"")
    flags = "--lora-paths a.safetensors,b.safetensors --lora-scales 0.8,0.5"
    by_flags = started(f"run --model-type image-generation --model-path model --config-name flux-dev {flags}")
    assert (by_flags.options.task, by_flags.options.lora_scales) == ("image-generation", [0.8, 0.5])
    model = "model_path: model, model_type: image-generation, config_name: flux-dev"
    Path("old.yaml").write_text(
        f"models: [{{{model}, lora_paths: [a.safetensors, b.safetensors], lora_scales: [0.8, 0.5]}}]"
    )
    assert started("run --config old.yaml").models == by_flags.models


def test_its_file_and_its_flags_are_equivalent(started: Callable[..., Start]) -> None:
    Path("tuned.yml").write_text(TUNED_YAML)
    by_file = started("launch --config tuned.yml")
    by_flags = started(next(line for line in LINES if "--kv-bits" in line))
    assert by_file.models == by_flags.models
    assert len(by_file.notes) == len(by_flags.notes) == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "models: [",
            "--config 'old.yaml' cannot be read: expected the node content, but found '<stream end>' (at line 1",
        ),
        ("port: \x00", "--config 'old.yaml' cannot be read: unacceptable character #x0000: special"),
        ("[]", "must have a list of tables `models`"),
        ("models: []", "must have a list of tables `models`"),
        ("server: 3\nmodels: [{model_path: model}]", "must have a list of tables `models`"),
        ("models: [{model_path: model, modeltype: lm}]", "unknown key 'modeltype' (did you mean 'model_type'?)."),
        ("models: [{model_path: model, 5: lm}]", "unknown key 5 (available: batch_completion_size, "),
        ("models: [{model_path: model, model_type: text}]", "model_type 'text' is not one of 'lm', 'multimodal'"),
        ("server: {hots: x}\nmodels: [{model_path: model}]", "server in 'old.yaml' has an unknown key 'hots' (did you"),
        ("models: [{model_path: model, model_type: [lm]}]", "model_type ['lm'] is not one of 'lm', 'multimodal'"),
        ("models: [{model_path: model, model_type: image-edit, lora_paths: 5}]", "'lora_paths' in [[models]] number 1"),
        ("models: [{model_path: 5}]", "'model' in [[models]] number 1 of old.yaml: must be a string, got 5"),
        ("models: [{model_path: model, default_top_p: 3}]", "'top_p' in [[models]] number 1 of old.yaml"),
    ],
)
def test_an_invalid_file_is_rejected_with_the_location(invoke: Invoke, text: str, expected: str) -> None:
    Path("old.yaml").write_text(text)
    result, starts = invoke("run", "--config", "old.yaml")
    assert (result.exit_code, starts) == (2, [])
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("run --backend lm --model-type lm --model model", "--backend and --model-type both set the backend"),
        ("run --backend lm --model model --kv-bits 4", "No such option '--kv-bits'"),
        ("run --model-type text --model-path model", "'text' is not one of 'lm', 'multimodal'"),
        ("run --model model", "--backend is required"),
        ("launch --model-type lm", "--model is missing"),
        ("launch --model-path no-such-folder", "no such folder"),
        ("launch --model-path model --tool-call-parser solar_open", "Unknown parser 'solar_open'"),
    ],
)
def test_unsupported_settings_are_rejected(invoke: Invoke, args: str, expected: str) -> None:
    result, starts = invoke(*args.split())
    assert (result.exit_code, starts) == (2, [])
    assert expected in result.stderr


def test_the_backend_of_the_environment_is_the_default(started: Callable[..., Start]) -> None:
    start = started("run --model-path model", env={"MLX_HOST_BACKEND": "embeddings"})
    assert start.settings.backend == "embeddings"


def test_the_help_names_model_type_and_hides_the_other_old_flags(invoke: Invoke) -> None:
    result, _ = invoke("run", "--model-type", "lm", "--help-all")
    assert "--model-type" in result.stdout
    assert "--prefill-step-size" in result.stdout
    assert "--kv-bits" not in result.stdout
    assert "│ launch " not in invoke("--help")[0].stdout


@pytest.mark.parametrize(
    ("args", "translated", "notes"),
    [
        (["--backend", "lm", "--kv-bits", "4"], ["--backend", "lm", "--kv-bits", "4"], 0),
        (["--model-path", "m"], ["--backend=lm", "--model-path", "m"], 0),
        (["--model-path=m", "--max-bytes=7"], ["--prompt-cache-bytes=7", "--backend=lm", "--model-path=m"], 0),
        (
            ["--model-path", "m", "--kv-bits", "4", "--port", "1"],
            ["--backend=lm", "--model-path", "m", "--port", "1"],
            1,
        ),
        # The value of a flag is not taken for a flag.
        (["--model-path", "m", "--host", "--debug"], ["--backend=lm", "--model-path", "m", "--host", "--debug"], 0),
        (["--model-path", "m", "--", "--debug"], ["--backend=lm", "--model-path", "m", "--", "--debug"], 0),
        # The current flag comes last, so it overrides.
        (
            ["--log-level", "info", "--debug", "--model-type", "lm"],
            ["--backend=lm", "--log-level=debug", "--log-level", "info"],
            0,
        ),
    ],
)
def test_arguments_are_translated(args: list[str], translated: list[str], notes: int) -> None:
    fields = {"backend", "model", "host", "port", "log_level", "prompt_cache_bytes", "max_concurrency"}
    found = translate(
        args,
        takes_value=lambda flag: flag in ("--backend", "--model-path", "--host", "--port", "--log-level"),
        fields_of=lambda backend, config: fields,
        backend=None,
        config=None,
        legacy=False,
    )
    assert sorted(found.arguments) == sorted(translated)
    assert found.arguments[-2:] == translated[-2:]
    assert len(found.notes) == notes


def test_an_old_flag_without_its_value(invoke: Invoke) -> None:
    result, starts = invoke("launch", "--model-path", "model", "--kv-bits")
    assert (result.exit_code, starts) == (2, [])
    assert "--kv-bits" in result.stderr
