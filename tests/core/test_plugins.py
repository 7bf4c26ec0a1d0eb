"""Plugin discovery, with plugins installed as distributions."""

from __future__ import annotations

import json
from importlib.metadata import Distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlx_host import __version__, hookimpl
from mlx_host._plugins.contract import check_contract, contract_range
from mlx_host._plugins.manager import Plugins
from mlx_host.backend import Backend, LoadContext, Model, Options
from mlx_host.errors import PluginError, UsageError

from tests.support.client import get, post
from tests.support.command import mlx_host, usage_error_of
from tests.support.plugin_projects import install_plugins, install_projects, write_project
from tests.support.server import running_server

HEAD = """\
from mlx_host import hookimpl
from mlx_host.api import Api, ApiSettings, Endpoints
from mlx_host.backend import Backend, Options, ModelSource
from mlx_host.parsing import Content, Parser

def load(load):
    raise AssertionError("not loaded in these tests")

def api(name, *paths, settings=ApiSettings):
    class Paths(Endpoints):
        def router(self):
            from mlx_host.api.http import new_router
            router = new_router()
            for path in paths:
                router.get(path)(lambda: path)
            return router
    return Api(name=name, settings=settings, create=lambda service, settings: Paths(), summary=f"API {name} [for test]")

def parser(name, *aliases):
    def feed(self, text):
        return [Content(text)]
    def finish(self):
        return []
    kind = dict(name=name, aliases=aliases, description="nothing", feed=feed, finish=finish)
    return type(name, (Parser,), kind)
"""

# The plugins and what each one tests.
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
class FineSettings(ApiSettings):
    size_mb: float = 1
@hookimpl
def register_apis():
    return [api("fine", "/fine", "/fine/{id}", settings=FineSettings)]
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
def resolve_source(reference):
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
    "unclosed": """
@hookimpl
def register_parsers():
    from mlx_host.parsing import MarkupParser
    return [type("Unclosed", (MarkupParser,), dict(name="unclosed", description="none", think_open=("<think>",)))]
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
def register_parsers():
    return [parser("of-roadblock")]
@hookimpl
def register_commands(cli):
    cli.command("of-roadblock")(print)
@hookimpl
def register_apis():
    raise BlockingIOError("no way")
@hookimpl
def request_finished(record):
    raise AssertionError("skipped, and yet called")
""",
    "collapse": """
@hookimpl
def register_backends():
    return [Backend("collapsing", load, Options)]
def create(service, settings):
    raise BlockingIOError("not today")
@hookimpl
def register_apis():
    return [api("early", "/early"), Api(name="collapsing", settings=ApiSettings, create=create), api("late", "/late")]
@hookimpl
def request_finished(record):
    raise AssertionError("skipped, and yet called")
""",
    "grump": """
@hookimpl
def register_apis():
    return [api("grump", "/grump")]
@hookimpl(tryfirst=True)
def request_finished(record):
    raise RuntimeError(f"so what, {record.model}")
""",
    "meddler": """
from dataclasses import replace
@hookimpl(wrapper=True)
def prepare_request(request, model):
    request = yield
    if "meddle" in str(getattr(request, "messages", "")):
        raise LookupError("where was I?")
    return request
""",
    "old-wrapper": """
@hookimpl(hookwrapper=True)
def request_finished(record):
    yield
""",
    "api-string": """
@hookimpl
def register_apis():
    return ["chat"]
""",
    "api-name": """
@hookimpl
def register_apis():
    return [api("of api-name", "/x")]
""",
    "api-own": """
@hookimpl
def register_apis():
    return [api("chat", "/x")]
""",
    "api-settings": """
@hookimpl
def register_apis():
    return [api("of-api-settings", "/x", settings=Options)]
""",
    "api-legacy": """
class Legacy(ApiSettings):
    legacy_names = {"of_old": "size"}
@hookimpl
def register_apis():
    return [api("of-api-legacy", "/x", settings=Legacy)]
""",
    "api-core-flag": """
class Size(ApiSettings):
    size: int = 1
@hookimpl
def register_backends():
    return [Backend("of-api-core-flag", load, Options)]
@hookimpl
def register_apis():
    return [api("queue", "/x", settings=Size)]
""",
    "api-backend-flag": """
class Slots(ApiSettings):
    legacy_names = {"slots": "size"}
    size: int = 1
@hookimpl
def register_apis():
    return [api("of-api-backend-flag", "/x", settings=Slots)]
""",
    "api-api-flag": """
class Port(ApiSettings):
    fine_size_mb: int = 1
    legacy_names = {"fine_size_mb": "fine_size_mb"}
@hookimpl
def register_apis():
    return [api("of-api-api-flag", "/x", settings=Port)]
""",
    "backend-api-flag": """
class Taken(Options):
    chat_port: int = 1
@hookimpl
def register_backends():
    return [Backend("of-backend-api-flag", load, Taken)]
""",
    "mutiny": """
@hookimpl
def register_backends():
    return [Backend("of-mutiny", load, Options)]
@hookimpl
def register_commands(cli):
    cli.command("of-mutiny")(print)
    raise PermissionError("not aboard")
""",
}

FAILED = {
    "sick": "import failed: ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
    "quitter": "import failed: SystemExit: I am leaving",
    "misspelt": "unknown hook 'register_backend'; did you mean 'register_backends'?",
    "odd": "unknown hook 'on_full_moon'; available: register_backends, register_parsers,",
    "arguments": "does not match the hook spec: Plugin 'mlx-host-arguments:arguments' for hook 'resolve_source'",
    "silent": "implements no hook; is the decorator @mlx_host.hookimpl missing?",
    "nothing": "register_backends returned None; is a `return` missing?",
    "garbage": "register_backends returned 'lm', expected a Backend",
    "instance": "expected a subclass of Parser",
    "letters": "aliases of parser 'of-letters' must be a tuple of names, not 'abc'",
    "unclosed": "parser 'unclosed' must define both think_open and think_close, or neither",
    "halfway": "register_parsers failed: LookupError: no parser today",
    "wrapper": "register_backends cannot be a wrapper",
    "twice": "registers backend 'of-twice' twice",
    "port": "backend 'of-port': setting 'port' needs the name 'port', which mlx-host itself uses; rename it",
    "path": "setting 'model_path' needs the name 'model_path', which mlx-host itself uses",
    "opposite": "setting 'no_model' needs the name 'model', which mlx-host itself uses",
    "alias": "field 'size' has an alias",
    "optionless": "options of backend 'of-optionless' must be a subclass of Options, not <class 'dict'>",
    "usurper": "registers a command 'run', which is mlx-host's own",
    "roadblock": "register_apis failed: BlockingIOError: no way",
    "collapse": "API 'collapsing' failed: BlockingIOError: not today",
    "old-wrapper": "request_finished is an old-style wrapper; use @hookimpl(wrapper=True)",
    "api-string": "register_apis returned 'chat', expected an Api",
    "api-name": "'of api-name' is not a valid API name",
    "api-own": "registers an API 'chat', which is mlx-host's own",
    "api-settings": "settings of API 'of-api-settings' must be a subclass of ApiSettings",
    "api-legacy": "API 'of-api-legacy': the legacy name 'of_old' maps to 'size', which is not a setting",
    "api-core-flag": "API 'queue': setting 'size' needs the name 'queue_size', which mlx-host itself uses",
    "api-backend-flag": "setting 'size' of API 'of-api-backend-flag' (mlx-host-api-backend-flag 1.0) and setting "
    "'slots' of backend 'scripted' (",
    "api-api-flag": "setting 'fine_size_mb' of API 'of-api-api-flag' (mlx-host-api-api-flag 1.0) and setting 'size_mb' "
    "of API 'fine' (mlx-host-fine 1.0) share the name 'fine_size_mb'",
    "backend-api-flag": f"setting 'port' of API 'chat' (mlx-host {__version__}) and setting 'chat_port' of backend "
    "'of-backend-api-flag' (mlx-host-backend-api-flag 1.0) share the name 'chat_port'",
    "mutiny": "register_commands failed: PermissionError: not aboard",
}


@pytest.fixture(scope="module")
def failing_plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = {name: HEAD + source for name, source in PLUGINS.items()}
    return install_plugins(tmp_path_factory.mktemp("failing_plugins"), sources)


@pytest.fixture(scope="module")
def listing(failing_plugins: Path) -> dict[str, Any]:
    done = mlx_host("plugins", "--json", plugins=[failing_plugins])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    listed: dict[str, Any] = json.loads(done.stdout)
    return listed


@pytest.mark.parametrize("name", FAILED)
def test_a_faulty_plugin_is_listed_with_its_reason(listing: dict[str, Any], name: str) -> None:
    (row,) = [row for row in listing["skipped"] if row["name"] == name]
    assert (row["distribution"], row["version"]) == (f"mlx-host-{name}", "1.0")
    assert FAILED[name] in row["reason"]
    assert "\n" not in row["reason"]


def test_a_faulty_plugin_registers_nothing(listing: dict[str, Any]) -> None:
    assert not {row["name"] for row in listing["plugins"]} & set(FAILED)
    registered = json.dumps(listing["plugins"])
    assert not [name for name in FAILED if f"of-{name}" in registered or f"of_{name}" in registered]


def test_working_plugins_are_listed_with_what_they_register(listing: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in listing["plugins"]}
    assert rows["fine"] == {
        "name": "fine",
        "distribution": "mlx-host-fine",
        "version": "1.0",
        "backends": {"fine": {"summary": "a backend [with brackets]", "options": [], "flags": []}},
        "parsers": ["fine_parser", "fine_too"],
        "apis": {
            "fine": {
                "summary": "API fine [for test]",
                "paths": ["GET /fine", "GET /fine/{id}"],
                "settings": ["port", "size_mb"],
                "flags": ["--fine-port", "--fine-size-mb"],
                "requests": [],
            }
        },
        "parser_families": ["Fine-Parser"],
        "commands": ["greet"],
        "hooks": ["register_apis", "register_backends", "register_commands", "register_parsers", "resolve_source"],
    }
    assert list(rows["future"]["backends"]) == ["future"]
    assert list(rows["twin-a"]["backends"]) == ["only-a"]
    assert rows["commands"]["distribution"] == "mlx-host"
    assert {"run", "plugins"} <= set(rows["commands"]["commands"])
    assert rows["scripted"]["backends"]["scripted"]["options"][0] == "slots"


def test_a_name_that_two_plugins_register_is_listed_as_a_conflict(listing: dict[str, Any]) -> None:
    by = ["mlx-host-twin-a 1.0", "mlx-host-twin-b 1.0"]
    conflicts = {(row["kind"], row["name"]): sorted(row["by"]) for row in listing["conflicts"]}
    assert conflicts == {("backend", "twin"): by, ("parser", "both"): by, ("command", "twin"): by}


def test_the_table_fits_80_columns(failing_plugins: Path) -> None:
    done = mlx_host("plugins", "-v", plugins=[failing_plugins])
    assert done.returncode == 0
    table = [line for line in done.stdout.splitlines() if line[0] in "┏┃┡│├└"]
    assert {len(line) for line in table} == {80}
    assert "…" not in done.stdout
    text = " ".join(done.stdout.replace("│", " ").split())
    for part in (
        f" mlx-host {__version__} ",
        " mlx-host-fine 1.0 ",
        "a backend [with brackets]",
        "API chat: ",
        "POST /v1/chat/completions",
        "API fine: API fine [for test]",
        "GET /fine/{id}",
        "--fine-size-mb",
        "model sources",
        "commands bench completion doctor explain parser parsers plugins run service",
        "commands greet",
        "parsers fine_parser fine_too",
        "--generation-prompt",
        "--repetition-context-size",
        "--prefill-step-size",
    ):
        assert part in text
    faults = [line for line in done.stdout.splitlines() if line.startswith(("skipped: ", "conflict: "))]
    assert len([line for line in faults if line.startswith("skipped: ")]) == len(FAILED)
    assert len([line for line in faults if line.startswith("conflict: ")]) == 3
    assert "skipped: plugin 'sick' of mlx-host-sick 1.0: " + FAILED["sick"] in faults


@pytest.mark.parametrize("name", ["sick", "quitter", "misspelt", "port"])
def test_a_backend_of_a_skipped_plugin_is_an_error_with_the_reason(failing_plugins: Path, name: str) -> None:
    message = usage_error_of(mlx_host("run", "--backend", name, plugins=[failing_plugins]))
    assert message.startswith(f"Unknown backend {name!r}. Installed backends: ")
    assert f"Skipped: plugin {name!r} of mlx-host-{name} 1.0: {FAILED[name]}" in message


def test_using_a_conflicting_name_is_an_error(failing_plugins: Path) -> None:
    backend = usage_error_of(mlx_host("run", "--backend", "twin", plugins=[failing_plugins]))
    assert backend.startswith("backend 'twin' is registered by mlx-host-twin-")
    assert "mlx-host-twin-a 1.0" in backend
    assert "mlx-host-twin-b 1.0" in backend
    assert backend.endswith("; uninstall all but one of them.")
    parser = usage_error_of(
        mlx_host("run", "--backend", "scripted", "--tool-call-parser", "Both", plugins=[failing_plugins])
    )
    assert "parser 'both' is registered by mlx-host-twin-" in parser
    command = usage_error_of(mlx_host("twin", plugins=[failing_plugins]))
    assert command.startswith("command 'twin' is registered by mlx-host-twin-")


def test_a_plugins_command_runs(failing_plugins: Path) -> None:
    done = mlx_host("greet", plugins=[failing_plugins])
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert "Say hello." in mlx_host("--help", plugins=[failing_plugins]).stdout


def test_strict_plugins_makes_all_problems_fatal(failing_plugins: Path) -> None:
    message = usage_error_of(mlx_host("run", "--backend", "scripted", "--strict-plugins", plugins=[failing_plugins]))
    assert message.startswith("--strict-plugins: ")
    # An API's endpoints are created when the server starts.
    early = set(FAILED) - {"collapse"}
    assert not [name for name in early if f"{name!r} of mlx-host-{name} 1.0: " not in message]
    assert "backend 'twin' is registered by" in message


def test_strict_plugins_without_problems() -> None:
    """The plugins installed for these tests have no problems, so the next check fails."""
    message = usage_error_of(mlx_host("run", "--backend", "scripted", "--strict-plugins", "--model", "/no/such/folder"))
    assert message.startswith("--model '/no/such/folder': no such folder or file")


def test_a_plugin_that_fails_to_resolve_is_named(failing_plugins: Path) -> None:
    lost = mlx_host("run", "--backend", "fine", "--model", "lost:model", plugins=[failing_plugins])
    assert (lost.returncode, lost.stdout) == (1, "")
    assert len(lost.stderr.splitlines()) == 1
    assert all(fact in lost.stderr for fact in ("mlx-host-fine 1.0", "'lost:model'", "KeyError: 'lost'"))
    junk = mlx_host("run", "--backend", "fine", "--model", "junk:model", plugins=[failing_plugins])
    assert (junk.returncode, junk.stdout) == (1, "")
    assert all(fact in junk.stderr for fact in ("'junk:model'", "'junk',", "ModelSource"))


def test_a_backend_that_is_not_installed_names_its_package() -> None:
    plugins = Plugins({})
    for info in [info for info in plugins.loaded.values() if info.name == "whisper"]:
        plugins.skip(info, "not wanted here")
    plugins.failed.clear()
    with pytest.raises(UsageError, match=r"'whisper'.*pip install \"mlx-host\[whisper"):
        plugins.backend("whisper")
    with pytest.raises(UsageError, match="'scripted'\\?"):
        plugins.backend("scriptd")
    with pytest.raises(UsageError, match="`mlx-host plugins`"):
        Plugins({}, installed=[]).backend("zzz")


def test_an_unknown_parser_is_an_error_that_lists_the_installed_ones() -> None:
    with pytest.raises(UsageError, match=r"'no-such'.*mlx-host-parser-qwen3"):
        Plugins({}, installed=[]).parser("no-such")
    with pytest.raises(UsageError, match=r"'qwen3'\?"):
        Plugins({}).parser("qwen_3x")


def test_parser_names_ignore_case_and_dashes() -> None:
    plugins = Plugins({})
    assert plugins.parser("Qwen3-MoE") is plugins.parser("qwen3")


def fail_to_load(load: LoadContext[Options]) -> Model:
    raise AssertionError("not loaded in these tests")


def providing(*names: str) -> SimpleNamespace:
    @hookimpl
    def register_backends() -> list[Backend[Any]]:
        return [Backend(name, fail_to_load, Options) for name in names]

    return SimpleNamespace(register_backends=register_backends)


def test_a_name_that_three_plugins_register_names_all_three() -> None:
    plugins = Plugins({name: providing("same") for name in ("one", "two", "three")}, installed=[])
    assert [info.name for info in plugins.backends.conflicts["same"]] == ["one", "two", "three"]
    assert plugins.backends.found == {}


def test_one_plugin_with_two_entry_points_is_registered_once() -> None:
    plugin = providing("same")
    plugins = Plugins({"one": plugin, "two": plugin}, installed=[])
    assert list(plugins.backends.found) == ["same"]
    (failed,) = plugins.failed
    assert failed.info.name == "two"
    assert "already registered" in failed.reason


def test_an_mlx_host_error_of_a_source_is_not_wrapped() -> None:
    @hookimpl
    def resolve_source(ref: str) -> None:
        raise UsageError(f"{ref} has moved")

    plugins = Plugins({"mover": SimpleNamespace(resolve_source=resolve_source)}, installed=[])
    with pytest.raises(UsageError, match=r"^here has moved$"):
        plugins.source("here")


def test_an_unknown_reference_lists_the_accepted_kinds() -> None:
    with pytest.raises(UsageError, match="--model 'nope'"):
        Plugins({}, installed=[]).source("nope")


def test_a_plugin_error_is_not_a_usage_error() -> None:
    @hookimpl
    def resolve_source(ref: str) -> int:
        return 7

    plugins = Plugins({"odd": SimpleNamespace(resolve_source=resolve_source)}, installed=[])
    with pytest.raises(PluginError, match=r"7.*ModelSource"):
        plugins.source("anything")


def test_plugins_that_fail_at_runtime_are_named_and_do_not_affect_others(failing_plugins: Path) -> None:
    with running_server("--backend", "echo", plugins=[failing_plugins]) as server:
        line = server.wait_for_line("skipped: plugin 'collapse'")
        assert line.endswith("of mlx-host-collapse 1.0: API 'collapsing' failed: BlockingIOError: not today")
        assert server.wait_for_line("skipped: plugin 'roadblock' of mlx-host-roadblock 1.0: register_apis failed")
        for path in ("/early", "/late"):
            assert get(server, path).status_code == 404
        assert get(server, "/grump").json() == "/grump"
        assert get(server, "/v1/models").json()["object"] == "list"
        assert post(server, {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}).status_code == 200
        assert server.wait_for_line("plugin 'grump' of mlx-host-grump 1.0: request_finished failed")
        assert server.wait_for_line("RuntimeError: so what, echo")
        assert server.wait_for_line("mlx_host.requests: ")
        response = post(server, {"model": "echo", "messages": [{"role": "user", "content": "meddle"}]})
        assert response.status_code == 500
        error = response.json()["error"]
        assert (error["code"], error["type"]) == ("plugin_failed", "server_error")
        assert "plugin failed" in error["message"]
        assert server.wait_for_line("plugin 'meddler' of mlx-host-meddler 1.0: prepare_request failed")
        assert server.wait_for_line("LookupError: where was I?")
        server.stop()
    assert not [line for line in server.lines if "and yet called" in line]


def test_a_server_whose_apis_conflict_does_not_announce_its_address(tmp_path: Path) -> None:
    source = HEAD + '\n@hookimpl\ndef register_apis():\n    return [api("mine", "/v1/models")]\n'
    plugins = install_plugins(tmp_path, {"mine": source})
    done = mlx_host("run", "--backend", "scripted", "--port", "0", "--no-log-file", plugins=[plugins], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "listening" not in done.stderr
    assert "--disable-api mine" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["roadblock", "mutiny", "api-core-flag"])
def test_a_plugin_that_fails_in_a_registration_hook_is_skipped_completely(failing_plugins: Path, name: str) -> None:
    message = usage_error_of(mlx_host("run", "--backend", f"of-{name}", plugins=[failing_plugins]))
    assert message.startswith(f"Unknown backend 'of-{name}'. ")


@pytest.fixture(scope="module")
def collapse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_plugins(tmp_path_factory.mktemp("collapse"), {"collapse": HEAD + PLUGINS["collapse"]})


def test_strict_plugins_includes_endpoints_that_cannot_be_created(collapse: Path, tmp_path: Path) -> None:
    args = ("run", "--backend", "scripted", "--strict-plugins", "--port", "0")
    done = mlx_host(*args, plugins=[collapse], cwd=tmp_path)
    assert done.returncode == 2
    assert "Error: --strict-plugins: plugin 'collapse' of mlx-host-collapse 1.0: API" in done.stderr.splitlines()[-1]


def test_a_backend_of_a_plugin_whose_api_fails_is_not_served(failing_plugins: Path, tmp_path: Path) -> None:
    args = ("run", "--backend", "collapsing", "--model", ".", "--port", "0")
    done = mlx_host(*args, plugins=[failing_plugins], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: Unknown backend 'collapsing'. ")


# What plugins declare in their dependencies, and whether they are loaded.
CONTRACTS = {
    "same": ([f"mlx-host{contract_range(__version__)}"], True),
    "exact": ([f"MLX_Host=={__version__}"], True),
    "undeclared": (["click"], True),
    "elsewhere": (['mlx-host>=7; sys_platform == "never"', 'mlx-host[testing]>=7; extra == "test"'], True),
    "later": (["click>=8", "mlx-host>=7.3,<8"], False),
    "earlier": (["mlx-host[testing]<0.0.5"], False),
}


@pytest.fixture(scope="module")
def contracts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contracts")
    source = """
from mlx_host import hookimpl
from mlx_host.backend import Backend, Options
@hookimpl
def register_backends():
    return [Backend("of-{name}", print, Options)]
"""
    # The import of a plugin for another contract would fail for another reason.
    broken = "from mlx_host.a_module_of_another_version import name\n"
    projects = [
        write_project(
            folder / "projects" / name,
            name,
            source.replace("{name}", name) if loaded else broken,
            dependencies=dependencies,
        )
        for name, (dependencies, loaded) in CONTRACTS.items()
    ]
    return install_projects(folder, projects)


def test_a_plugin_for_another_contract_is_skipped_with_the_range_that_it_declares(contracts: Path) -> None:
    listed = json.loads(mlx_host("plugins", "--json", plugins=[contracts]).stdout)
    loaded = {row["name"] for row in listed["plugins"]}
    skipped = {row["name"]: row["reason"] for row in listed["skipped"]}
    assert {name for name, (_, compatible) in CONTRACTS.items() if compatible} == loaded & set(CONTRACTS)
    assert {name for name, (_, compatible) in CONTRACTS.items() if not compatible} == set(skipped)
    assert "mlx-host<8,>=7.3" in skipped["later"]
    assert "mlx-host<0.0.5" in skipped["earlier"]
    for name, reason in skipped.items():
        assert f"mlx-host {__version__}" in reason
        assert f"mlx-host-{name}" in reason
        assert "a_module_of_another_version" not in reason


def test_a_backend_for_another_contract_is_an_error_with_the_reason(contracts: Path) -> None:
    message = usage_error_of(mlx_host("run", "--backend", "later", plugins=[contracts]))
    assert "is built for mlx-host<8,>=7.3" in message


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.1.0", ">=0.1,<0.2"), ("0.12.3rc1", ">=0.12,<0.13"), ("1.0.0", ">=1.0,<2"), ("2.5.1.dev3", ">=2.5,<3")],
)
def test_the_contract_range_of_a_version(version: str, expected: str) -> None:
    assert contract_range(version) == expected
    dist = SimpleNamespace(name="mlx-host-x", requires=[f"mlx-host{expected}", "not/a requirement"])
    check_contract(cast(Distribution, dist), version)
    with pytest.raises(PluginError):
        check_contract(cast(Distribution, dist), "7.0.0")
