"""Discovery, with plugins that are installed distributions."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlx_host import __version__, hookimpl
from mlx_host._plugins.manager import Plugins
from mlx_host.backend import Backend, Load, Model, Options
from mlx_host.errors import PluginError, UsageError

from tests.support.client import get, post
from tests.support.command import complaint, mlx_host
from tests.support.plugin_projects import install_plugins
from tests.support.server import running_server

HEAD = """\
from mlx_host import hookimpl
from mlx_host.backend import Backend, Options, Source
from mlx_host.parsing import Content, Parser

def load(load):
    raise AssertionError("nobody loads it")

def parser(name, *aliases):
    def feed(self, text):
        return [Content(text)]
    def finish(self):
        return []
    kind = dict(name=name, aliases=aliases, reads="nothing", feed=feed, finish=finish)
    return type(name, (Parser,), kind)
"""

# Each plugin and what it is for.
PLUGINS = {
    "fine": """
@hookimpl
def register_backends():
    return [Backend("fine", load, Options, summary="a backend [with brackets]")]
@hookimpl
def register_parsers():
    return [parser("Fine-Parser", "fine-too")]
@hookimpl
def resolve_source(ref):
    if ref == "lost:model":
        raise KeyError("lost")
    if ref == "junk:model":
        return "junk"
    return Source(ref, "nowhere", lambda progress: None) if ref == "fine:model" else None
@hookimpl
def register_commands(cli):
    @cli.command()
    def greet():
        "Say hello."
        print("hello")
@hookimpl
def register_routes(router, host):
    pass
""",
    "future": """
@hookimpl
def register_backends():
    return [Backend("future", load, Options)]
@hookimpl(optionalhook=True)
def register_in_a_later_version():
    return []
""",
    "twin-a": """
@hookimpl
def register_backends():
    return [Backend("twin", load, Options), Backend("only-a", load, Options)]
@hookimpl
def register_parsers():
    return [parser("a", "both")]
@hookimpl
def register_commands(cli):
    cli.command("twin")(lambda: print("a"))
""",
    "twin-b": """
@hookimpl
def register_backends():
    return [Backend("twin", load, Options)]
@hookimpl
def register_parsers():
    return [parser("BOTH")]
@hookimpl
def register_commands(cli):
    cli.command("twin")(lambda: print("b"))
""",
    "sick": "import a_library_that_is_not_there",
    "quitter": "raise SystemExit('I am leaving')",
    "misspelt": """
@hookimpl
def register_parsers():
    return [parser("of-misspelt")]
@hookimpl
def register_backend():
    return [Backend("of-misspelt", load, Options)]
""",
    "odd": """
@hookimpl
def on_full_moon():
    return []
""",
    "arguments": """
@hookimpl
def register_backends():
    return [Backend("of-arguments", load, Options)]
@hookimpl
def register_routes(router, hosts):
    pass
""",
    "silent": """
def register_backends():
    return [Backend("of-silent", load, Options)]
""",
    "nothing": """
@hookimpl
def register_backends():
    pass
""",
    "garbage": """
@hookimpl
def register_backends():
    return ["lm"]
""",
    "instance": """
@hookimpl
def register_parsers():
    return [parser("of-instance")()]
""",
    "letters": """
@hookimpl
def register_parsers():
    kind = parser("of-letters")
    kind.aliases = "abc"
    return [kind]
""",
    "halfway": """
@hookimpl
def register_backends():
    return [Backend("of-halfway", load, Options)]
@hookimpl
def register_parsers():
    raise LookupError("no parser today")
""",
    "wrapper": """
@hookimpl(wrapper=True)
def register_backends():
    return (yield)
""",
    "twice": """
@hookimpl
def register_backends():
    return [Backend("of-twice", load, Options), Backend("of-twice", load, Options)]
""",
    "port": """
class Taken(Options):
    port: int = 1
@hookimpl
def register_backends():
    return [Backend("of-port", load, Taken)]
""",
    "path": """
class Taken(Options):
    model_path: str = ""
@hookimpl
def register_backends():
    return [Backend("of-path", load, Taken)]
""",
    "opposite": """
class Taken(Options):
    no_model: bool = False
@hookimpl
def register_backends():
    return [Backend("of-opposite", load, Taken)]
""",
    "alias": """
from pydantic import Field
class Aliased(Options):
    size: int = Field(1, alias="Size")
@hookimpl
def register_backends():
    return [Backend("of-alias", load, Aliased)]
""",
    "optionless": """
@hookimpl
def register_backends():
    return [Backend("of-optionless", load, dict)]
""",
    "usurper": """
@hookimpl
def register_commands(cli):
    @cli.command()
    def run():
        print("mine")
""",
    "roadblock": """
@hookimpl
def register_backends():
    return [Backend("of-roadblock", load, Options)]
@hookimpl
def register_routes(router, host):
    router.get("/half-a-plugin")(lambda: "half")
    raise BlockingIOError("no way")
@hookimpl
def request_finished(record):
    raise AssertionError("set aside, and yet called")
""",
    "grump": """
@hookimpl
def register_routes(router, host):
    router.get("/grump")(lambda: "hm")
    router.get("/v1/models")(lambda: "my models")
@hookimpl
def request_finished(record):
    raise RuntimeError(f"so what, {record.model}")
""",
    "mutiny": """
@hookimpl
def register_commands(cli):
    cli.command("of-mutiny")(print)
    raise PermissionError("not aboard")
""",
}

BROKEN = {
    "sick": "import failed: ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
    "quitter": "import failed: SystemExit: I am leaving",
    "misspelt": "there is no hook 'register_backend'; did you mean 'register_backends'?",
    "odd": "there is no hook 'on_full_moon'; the hooks are register_backends, register_parsers,",
    "arguments": "does not fit the hooks: Plugin 'mlx-host-arguments:arguments' for hook 'register_routes'",
    "silent": "implements no hook; is a @mlx_host.hookimpl missing?",
    "nothing": "register_backends failed: TypeError: 'NoneType' object is not iterable",
    "garbage": "register_backends returned 'lm', which is no Backend",
    "instance": "which is no subclass of Parser",
    "letters": "aliases of parser 'of-letters' must be a tuple of names, not 'abc'",
    "halfway": "register_parsers failed: LookupError: no parser today",
    "wrapper": "register_backends may not be a wrapper",
    "twice": "brings backend 'of-twice' twice",
    "port": "backend 'of-port': its option 'port' needs the name 'port', which is mlx-host's own; rename it",
    "path": "its option 'model_path' needs the name 'model_path', which is mlx-host's own",
    "opposite": "its option 'no_model' needs the name 'model', which is mlx-host's own",
    "alias": "its option 'size' has an alias",
    "optionless": "options of backend 'of-optionless' must be a subclass of Options, not <class 'dict'>",
    "usurper": "brings a command 'run', which is mlx-host's own",
    "mutiny": "register_commands failed: PermissionError: not aboard",
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = {name: HEAD + source for name, source in PLUGINS.items()}
    return install_plugins(tmp_path_factory.mktemp("zoo"), sources)


@pytest.fixture(scope="module")
def listing(zoo: Path) -> dict[str, Any]:
    done = mlx_host("plugins", "--json", plugins=[zoo])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    listed: dict[str, Any] = json.loads(done.stdout)
    return listed


@pytest.mark.parametrize("name", BROKEN)
def test_a_faulty_plugin_is_listed_with_its_reason(listing: dict[str, Any], name: str) -> None:
    (row,) = [row for row in listing["broken"] if row["name"] == name]
    assert (row["distribution"], row["version"]) == (f"mlx-host-{name}", "1.0")
    assert BROKEN[name] in row["reason"]
    assert "\n" not in row["reason"]


def test_a_faulty_plugin_brings_nothing(listing: dict[str, Any]) -> None:
    brought = json.dumps(listing["plugins"])
    assert not [name for name in BROKEN if f'"{name}"' in brought or f"of-{name}" in brought or f"of_{name}" in brought]


def test_the_good_plugins_are_listed_with_what_they_bring(listing: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in listing["plugins"]}
    assert rows["fine"] == {
        "name": "fine",
        "distribution": "mlx-host-fine",
        "version": "1.0",
        "backends": {"fine": {"summary": "a backend [with brackets]", "options": []}},
        "parsers": ["fine_parser", "fine_too"],
        "commands": ["greet"],
        "hooks": ["register_backends", "register_commands", "register_parsers", "register_routes", "resolve_source"],
    }
    assert list(rows["future"]["backends"]) == ["future"]
    assert list(rows["twin-a"]["backends"]) == ["only-a"]
    assert rows["commands"]["distribution"] == "mlx-host"
    assert {"run", "plugins"} <= set(rows["commands"]["commands"])
    assert rows["scripted"]["backends"]["scripted"]["options"][0] == "slots"


def test_a_name_that_two_plugins_bring_is_listed_as_a_conflict(listing: dict[str, Any]) -> None:
    by = ["mlx-host-twin-a 1.0", "mlx-host-twin-b 1.0"]
    conflicts = {(row["kind"], row["name"]): sorted(row["by"]) for row in listing["conflicts"]}
    assert conflicts == {("backend", "twin"): by, ("parser", "both"): by, ("command", "twin"): by}


def test_the_table_is_readable_at_80_columns(zoo: Path) -> None:
    done = mlx_host("plugins", plugins=[zoo])
    assert done.returncode == 0
    table = [line for line in done.stdout.splitlines() if line[0] in "┏┃┡│├└"]
    assert {len(line) for line in table} == {80}
    assert "…" not in done.stdout
    text = " ".join(done.stdout.replace("│", " ").split())
    for part in (
        f" mlx-host {__version__} ",
        " mlx-host-fine 1.0 ",
        "a backend [with brackets]",
        "HTTP endpoints",
        "model sources",
        "commands bench launch parser parsers plugins run",
        "commands greet",
        "parsers fine_parser fine_too",
        "--prompt-tail",
        "--repetition-context-size",
        "--prefill-step-size",
    ):
        assert part in text
    faults = [line for line in done.stdout.splitlines() if line.startswith("broken: ")]
    assert len(faults) == len(BROKEN) + 3
    assert "broken: plugin 'sick' of mlx-host-sick 1.0: " + BROKEN["sick"] in faults


@pytest.mark.parametrize("name", ["sick", "quitter", "misspelt", "port"])
def test_asking_for_a_broken_plugins_backend_says_why_it_is_not_there(zoo: Path, name: str) -> None:
    said = complaint(mlx_host("run", "--backend", name, plugins=[zoo]))
    assert said.startswith(f"No backend {name!r} is installed (there is: ")
    assert f"Set aside: plugin {name!r} of mlx-host-{name} 1.0: {BROKEN[name]}" in said


def test_a_conflict_is_refused_where_the_name_is_asked_for(zoo: Path) -> None:
    backend = complaint(mlx_host("run", "--backend", "twin", plugins=[zoo]))
    assert backend.startswith("backend 'twin' is brought by mlx-host-twin-")
    assert "mlx-host-twin-a 1.0" in backend
    assert "mlx-host-twin-b 1.0" in backend
    assert backend.endswith("; uninstall all of them but one.")
    parser = complaint(mlx_host("run", "--backend", "scripted", "--tool-call-parser", "Both", plugins=[zoo]))
    assert "parser 'both' is brought by mlx-host-twin-" in parser
    command = complaint(mlx_host("twin", plugins=[zoo]))
    assert command.startswith("command 'twin' is brought by mlx-host-twin-")


def test_a_plugins_command_runs(zoo: Path) -> None:
    done = mlx_host("greet", plugins=[zoo])
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert "Say hello." in mlx_host("--help", plugins=[zoo]).stdout


def test_strict_plugins_makes_faults_fatal_and_names_them_all(zoo: Path) -> None:
    said = complaint(mlx_host("run", "--backend", "scripted", "--strict-plugins", plugins=[zoo]))
    assert said.startswith("--strict-plugins: ")
    assert not [name for name, reason in BROKEN.items() if f"{name!r} of mlx-host-{name} 1.0: " not in said]
    assert "backend 'twin' is brought by" in said


def test_strict_plugins_is_content_where_nothing_is_wrong() -> None:
    """Whatever is installed for these tests is in order, so the next check is what complains."""
    said = complaint(mlx_host("run", "--backend", "scripted", "--strict-plugins", "--model", "/no/such/folder"))
    assert said.startswith("--model '/no/such/folder': there is no such folder or file")


def test_a_plugin_that_fails_to_resolve_is_named(zoo: Path) -> None:
    lost = mlx_host("run", "--backend", "fine", "--model", "lost:model", plugins=[zoo])
    assert (lost.returncode, lost.stdout) == (1, "")
    assert lost.stderr == "Error: mlx-host-fine 1.0: resolve_source of 'lost:model' failed: KeyError: 'lost'.\n"
    junk = mlx_host("run", "--backend", "fine", "--model", "junk:model", plugins=[zoo])
    assert (junk.returncode, junk.stdout) == (1, "")
    assert "resolve_source of 'junk:model' returned 'junk', which is no Source." in junk.stderr


def test_a_backend_that_is_not_installed_names_its_package() -> None:
    plugins = Plugins({})
    plugins.backends.found.pop("whisper", None)
    with pytest.raises(UsageError, match=r"No backend 'whisper' is installed .*pip install mlx-host-whisper$"):
        plugins.backend("whisper")
    with pytest.raises(UsageError, match="Did you mean 'scripted'"):
        plugins.backend("scriptd")
    with pytest.raises(UsageError, match="`mlx-host plugins` lists what is installed"):
        Plugins({}, installed=[]).backend("zzz")


def test_a_parser_that_is_not_installed_names_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"No parser 'no-such' is installed \(there is: none\).*mlx-host-parser-qwen3"):
        Plugins({}, installed=[]).parser("no-such")
    with pytest.raises(UsageError, match=r"Did you mean 'qwen3'\?"):
        Plugins({}).parser("qwen_3x")


def test_parsers_are_found_whatever_their_case_and_dashes() -> None:
    plugins = Plugins({})
    assert plugins.parser("Qwen3-MoE") is plugins.parser("qwen3")


def fail_to_load(load: Load[Options]) -> Model:
    raise AssertionError("nobody loads it")


def bringing(*names: str) -> SimpleNamespace:
    @hookimpl
    def register_backends() -> list[Backend[Any]]:
        return [Backend(name, fail_to_load, Options) for name in names]

    return SimpleNamespace(register_backends=register_backends)


def test_a_name_that_three_bring_names_all_three() -> None:
    plugins = Plugins({name: bringing("same") for name in ("one", "two", "three")}, installed=[])
    assert [origin.name for origin in plugins.backends.conflicts["same"]] == ["one", "two", "three"]
    assert plugins.backends.found == {}


def test_one_object_behind_two_names_is_registered_once() -> None:
    plugin = bringing("same")
    plugins = Plugins({"one": plugin, "two": plugin}, installed=[])
    assert list(plugins.backends.found) == ["same"]
    (broken,) = plugins.broken
    assert broken.origin.name == "two"
    assert "already registered" in broken.reason


def test_an_error_of_ours_from_a_source_passes_as_it_is() -> None:
    @hookimpl
    def resolve_source(ref: str) -> None:
        raise UsageError(f"{ref} has moved")

    plugins = Plugins({"mover": SimpleNamespace(resolve_source=resolve_source)}, installed=[])
    with pytest.raises(UsageError, match=r"^here has moved$"):
        plugins.source("here")


def test_an_unknown_reference_says_what_may_be_given() -> None:
    with pytest.raises(UsageError, match="--model 'nope': there is no such folder or file"):
        Plugins({}, installed=[]).source("nope")


def test_a_plugin_error_is_no_usage_error() -> None:
    @hookimpl
    def resolve_source(ref: str) -> int:
        return 7

    plugins = Plugins({"odd": SimpleNamespace(resolve_source=resolve_source)}, installed=[])
    with pytest.raises(PluginError, match="returned 7, which is no Source"):
        plugins.source("anything")


def test_plugins_that_fail_at_work_are_named_and_keep_nobody_from_theirs(zoo: Path) -> None:
    env = {"PYTHONPATH": str(zoo)}
    with running_server("--backend", "echo", env=env) as server:
        line = server.wait_for_line("set aside: plugin 'roadblock'")
        assert line.endswith("of mlx-host-roadblock 1.0: register_routes failed: BlockingIOError: no way")
        assert get(server, "/half-a-plugin").status_code == 404
        assert get(server, "/grump").json() == "hm"
        assert get(server, "/v1/models").json()["object"] == "list"
        assert post(server, {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}).status_code == 200
        assert server.wait_for_line("plugin 'grump' of mlx-host-grump 1.0: request_finished failed")
        assert server.wait_for_line("RuntimeError: so what, echo")
        assert server.wait_for_line("mlx_host.requests: ")
        server.stop()
    assert not [line for line in server.lines if "and yet called" in line]
