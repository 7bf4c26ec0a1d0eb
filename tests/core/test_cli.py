"""The command line: help, version, errors, and what it may import."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx_host as mlx_host_package
import pytest
from mlx_host import __version__
from mlx_host._cli import discover
from mlx_host._settings import HOST, MODEL, SettingNames, api_names, flag_name, option_names, variable_name

from tests.support.command import environment, mlx_host, usage_error_of
from tests.support.terminal import on_a_terminal

# Slow to import, or not a dependency of core.
HEAVY = ("fastapi", "starlette", "uvicorn", "uvloop", "mlx", "mlx_lm", "transformers", "huggingface_hub", "hypothesis")


def imported(*args: str) -> set[str]:
    """Run a command; return the packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mlx_host", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "mlx_host._plugins.manager" in modules, done.stderr
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["plugins", "new", "--help"],
        ["run", "--backend", "lm", "--help"],
        ["bench", "--help"],
        # Usage errors are found before anything slow is imported.
        ["run", "--backend", "lm", "--no-such-flag"],
        ["run", "--backend", "lm", "--model", "/no/such/folder"],
        ["run", "--backend", "lm", "--model", ".", "--tool-call-parser", "no-such"],
        ["run"],
        # Asks each backend whether it accepts the folder.
        ["run", "--model", "."],
        ["run", "--backend", "lm", "--model", ".", "--chat-template-file", "no-such"],
    ],
    ids=" ".join,
)
def test_fast_commands_import_nothing_heavy(args: list[str]) -> None:
    assert imported(*args).isdisjoint(HEAVY)


def test_listing_plugins_imports_the_web_framework_and_no_model_library() -> None:
    """The listed paths are those of an API's router, which needs the web framework."""
    found = imported("plugins")
    assert "fastapi" in found
    assert found.isdisjoint(set(HEAVY) - {"fastapi", "starlette"})


def test_importing_core_imports_no_mlx() -> None:
    """Imports each module of core; those with the test contracts need test tools, but not MLX."""
    package = Path(mlx_host_package.__file__).parent
    files = [path.relative_to(package.parent).with_suffix("") for path in package.rglob("*.py")]
    modules = [".".join(path.parts) for path in files if path.name not in ("__init__", "__main__")]
    script = f"import importlib, json, sys\nfor name in {sorted(modules)}: importlib.import_module(name)\n"
    script += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    found = set(json.loads(done.stdout))
    assert {"mlx_host._http.app", "mlx_host._cli.serve", "mlx_host.testing.parser_contract"} <= found
    assert found.isdisjoint({"mlx", "mlx.core", "mlx_lm", "transformers"})


def test_version() -> None:
    done = mlx_host("--version")
    assert (done.returncode, done.stdout) == (0, f"mlx-host, version {__version__}\n")


def test_the_script_and_the_module_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("mlx-host")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, env=environment(), check=False)
    assert (done.returncode, done.stdout) == (0, f"mlx-host, version {__version__}\n")


def test_without_arguments_the_help_is_shown() -> None:
    bare = mlx_host()
    assert "Usage: mlx-host" in bare.stdout
    assert bare.stdout == mlx_host("-h").stdout


def test_help_lists_the_commands_with_one_line_each() -> None:
    done = mlx_host("--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    for command in ("run Load models and serve them.", "plugins List the installed plugins", "bench Measure"):
        assert f"│ {command}" in text


def panels(text: str) -> dict[str, str]:
    """The panels of a help text by title, each joined to one line."""
    found: dict[str, str] = {}
    title = ""
    for line in text.splitlines():
        if line.startswith("╭─ "):
            title = line.strip("╭─╮ ")
        elif line.startswith("│"):
            found[title] = f"{found.get(title, '')} {' '.join(line.strip('│').split())}"
    return found


def test_help_of_run_is_short_and_has_the_common_settings() -> None:
    done = mlx_host("run", "--help")
    assert done.returncode == 0
    groups = panels(done.stdout)
    assert list(groups) == ["Model", "Server", "Options"]
    assert "--port INT The port to listen on; 0 selects a free port. [default: 8000]" in groups["Server"]
    assert (
        "--log-level NAME Minimum log level. [default: info] [debug, info, warning, error, critical]"
        in groups["Server"]
    )
    assert "--model TEXT" in groups["Model"]
    assert "--stall-timeout" not in done.stdout
    assert "MLX_HOST_" not in "".join(groups.values())
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_of_run_begins_with_the_options_of_the_backend() -> None:
    done = mlx_host("run", "--backend", "lm", "--help")
    assert done.returncode == 0
    groups = panels(done.stdout)
    assert list(groups) == ["Backend lm", "Model", "Server", "Options"]
    assert "--temperature FLOAT" in groups["Backend lm"]
    assert "[default: 512]" in groups["Backend lm"]
    assert len(done.stdout.splitlines()) < 100


def test_help_all_has_every_setting_and_variable_unbroken() -> None:
    """The longest names of this repository's plugins fit into 80 columns."""
    plugins = discover()
    done = mlx_host("run", "--backend", "flux", "--help-all")
    assert done.returncode == 0
    groups = panels(done.stdout)
    assert list(groups) == ["Backend flux", "Model", "Server", "APIs", "Options"]
    names: list[SettingNames[Any]] = [HOST, MODEL, option_names(plugins.backend("flux").options)]
    names += [api_names(name, api.settings) for name, api in plugins.apis.found.items()]
    words = set(done.stdout.split())
    for setting in names:
        for field in setting.schema.model_fields:
            assert {flag_name(setting.name(field)), variable_name(setting.name(field))} <= words
    assert "--enable-auto-tool-choice" in groups["Model"]
    assert "[default: on]" in groups["Model"]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_empty_defaults_are_not_shown() -> None:
    group = panels(mlx_host("run", "--backend=scripted", "--help").stdout)["Backend scripted"]
    assert "Generation prompt to report in Started. --" in " ".join(group.split())


def test_serve_is_run(tmp_path: Path) -> None:
    args = ("--backend", "scripted", "--fail-load", "--port", "0")
    run, serve = mlx_host("run", *args, cwd=tmp_path), mlx_host("serve", *args, cwd=tmp_path)
    assert run.returncode == serve.returncode == 1
    assert "fail_load is set" in serve.stderr
    shown = mlx_host("--help").stdout
    assert not re.search("^│ (serve|launch) ", shown, re.MULTILINE)


def test_without_a_backend_the_backends_and_models_to_try_are_listed() -> None:
    done = mlx_host("run")
    assert (done.returncode, done.stdout) == (2, "")
    first, *lines = done.stderr.splitlines()
    assert first.startswith("Error: --backend is required")
    assert {"lm", "vlm", "whisper", "embeddings", "flux"} <= {line.split()[0] for line in lines}
    for backend, model in (("lm", "smollm2"), ("embeddings", "minilm"), ("whisper", "whisper-tiny.en")):
        assert f"  mlx-host run --backend {backend} --model demo:{model}" in lines
    assert "demo:smollm2" in usage_error_of(mlx_host("run", "--backend", "lm"))


def test_a_folder_without_a_backend_names_the_backends_that_accept_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    message = usage_error_of(mlx_host("run", "--model", str(tmp_path)))
    assert message.endswith("can be loaded with --backend embeddings.")


def test_a_model_of_another_backend_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    done = mlx_host("run", "--backend", "lm", "--model", str(tmp_path), "--port", "0")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "bert" in line]
    assert "Use --backend embeddings." in line


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["run", "--backend", "lm", "--temprature", "1"], "'--temperature'"),
        (["run", "--backend", "lm", "--topp", "1"], "'--top-p' or '--top-k'"),
        (["plugisn"], "'plugins'"),
        (["run", "--backend", "whispr"], "'whisper'"),
    ],
)
def test_the_closest_name_is_suggested_first(args: list[str], name: str) -> None:
    assert f"Did you mean {name}?" in usage_error_of(mlx_host(*args))


def test_plugins_are_one_line_each() -> None:
    done = mlx_host("plugins")
    lines = done.stdout.partition("\n\n")[0].splitlines()
    assert len(lines) == len({line.split()[0] for line in lines})
    (lm,) = [line for line in lines if line.startswith("mlx-host-lm ")]
    assert lm.endswith("backend lm: text models on mlx-lm")
    assert "--temperature" not in done.stdout
    verbose = mlx_host("plugins", "-v").stdout
    assert "--temperature" in verbose
    assert "launch" not in verbose.replace("launchd", "")


def test_plugins_are_wrapped_on_a_terminal(tmp_path: Path) -> None:
    with on_a_terminal("plugins", cwd=tmp_path, columns=80) as (_, terminal):
        lines = terminal.read_until("--help` its options.\n").splitlines()
    assert max(map(len, lines)) <= 80
    (start,) = [number for number, line in enumerate(lines) if line.startswith("mlx-host-flux ")]
    column = lines[start].index("backend flux")
    assert lines[start + 1][:column].isspace()


def test_test_backends_are_not_in_the_environment_of_users() -> None:
    """The tests add them with PYTHONPATH."""
    done = mlx_host("plugins", "--json", env={"PYTHONPATH": ""})
    names = {backend for plugin in json.loads(done.stdout)["plugins"] for backend in plugin["backends"]}
    assert "lm" in names
    assert names.isdisjoint({"echo", "scripted"})


def test_unknown_commands_and_flags_are_one_line_usage_errors() -> None:
    assert "No such command 'rnu'" in usage_error_of(mlx_host("rnu"))
    assert usage_error_of(mlx_host("--no-such-flag")).startswith("No such option '--no-such-flag'")


def test_another_backends_flag_is_an_unknown_option() -> None:
    message = usage_error_of(mlx_host("run", "--backend", "lm", "--slots", "3"))
    assert message.startswith("No such option '--slots'")


def test_a_port_in_use_is_a_one_line_usage_error(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        message = usage_error_of(mlx_host("run", "--backend", "scripted", "--port", port, cwd=tmp_path))
    assert message.startswith(f"Cannot listen on 127.0.0.1:{port}: ")


def test_a_log_file_that_cannot_be_written_is_a_one_line_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = str(tmp_path / "file" / "app.log")
    message = usage_error_of(mlx_host("run", "--backend", "scripted", "--port", "0", "--log-file", log))
    assert message.startswith(f"--log-file {log!r} cannot be written: ")
    assert "--no-log-file" in message


def test_a_model_that_fails_to_load_is_not_a_usage_error_and_is_reported_once(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "app.log"
    done = mlx_host("run", "--backend", "scripted", "--fail-load", "--port", "0", "--log-file", str(log))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("fail_load is set") == 1
    assert "Traceback" not in done.stderr
    assert log.read_text().count("fail_load is set") == 1
    quiet = mlx_host("run", "--backend", "scripted", "--fail-load", "--port", "0", "--log-level", "critical")
    assert quiet.stderr == "Error: Model 'scripted' failed to load: fail_load is set\n"
