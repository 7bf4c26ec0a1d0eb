"""The reference is complete: each setting, option, flag, command, endpoint, error, hook, request and event."""

from __future__ import annotations

import re
import tomllib
from types import ModuleType

import mlx_host.events
import mlx_host.requests
import pytest
from mlx_host._cli.migration.table import FILE_ONLY, MODEL, SERVER
from mlx_host._settings import HostSettings, ModelSettings, flag_name, variable_name
from mlx_host.errors import RequestError

from scripts import reference
from scripts.reference import command_line, http_api, installed, python_api
from tests.docs.blocks import ROOT

DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "reference").glob("*.md"))


def page(name: str) -> str:
    """A page with every marker expanded."""
    return reference.expand_markers((DOCS / name).read_text(encoding="utf-8"))


def rows(text: str) -> list[list[str]]:
    """Return the cells of each line of a table except its separator; a `|` in a code span does not end a cell."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in re.findall(r"\|((?:`[^`]*`|\\.|[^|`])*)(?=\|)", line)] for line in lines]


def test_every_section_is_used_and_every_marker_has_a_section() -> None:
    used = {
        name.partition(" ")[0] for path in DOCS.rglob("*.md") for name in reference.MARKER.findall(path.read_text())
    }
    assert used == set(reference.SECTIONS)
    for path in REFERENCE:
        built = page(f"reference/{path.name}")
        assert not reference.MARKER.search(built)
        assert len(built) > 500, path


def settings(text: str) -> dict[str, tuple[str, str]]:
    """The description and the facts of each setting on a page, by flag."""
    found = {}
    for heading, description, facts in re.findall(r"^### (`.*)\n\n(.*)\n\n(.*)\n\{ \.facts \}$", text, re.MULTILINE):
        for flag in re.findall(r"`(--[\w-]+)`", heading):
            found[flag] = (description, facts)
    return found


@pytest.mark.parametrize("schema", [HostSettings, ModelSettings])
def test_each_setting_has_its_flag_its_variable_and_a_description(schema: type[HostSettings | ModelSettings]) -> None:
    output = settings(page("reference/settings.md"))
    for name in schema.model_fields:
        description, facts = output[flag_name(name)]
        assert f"Variable: `{variable_name(name)}`" in facts
        assert description, f"setting {name!r} has no description"


@pytest.mark.parametrize("name", installed.backends())
def test_each_option_of_each_backend_has_a_description(name: str) -> None:
    _, _, own = page("reference/backends.md").partition(f"\n## {name}\n")
    output = settings(own.partition("\n## ")[0])
    for option in installed.backends()[name].options.model_fields:
        description, facts = output[flag_name(option)]
        assert f"Variable: `{variable_name(option)}`" in facts
        assert description, f"option {option!r} of {name} has no description"


def test_the_backends_of_this_repository_are_documented() -> None:
    assert {"embeddings", "lm", "whisper"} <= set(installed.backends())
    assert not {"echo", "scripted"} & set(installed.backends())


def test_each_command_has_its_help() -> None:
    text = page("reference/command-line.md")
    paths = list(command_line.commands())
    assert {(), ("run",), ("plugins",), ("plugins", "new"), ("parser", "test"), ("bench",)} <= set(paths)
    for path in paths:
        _, heading, rest = text.partition(f"\n## {' '.join(('mlx-host', *path))}\n")
        assert heading, path
        assert f"Usage: {' '.join(('mlx-host', *path))}" in rest.partition("\n## ")[0]


def test_each_flag_has_a_help_text() -> None:
    for path in command_line.commands():
        for option, output in re.findall(r"│ (--[\w-]+)\S*(.*)│", command_line.help_of(*path)):
            assert re.search(r"[a-z]{2}", output), f"{' '.join(path)} {option} has no help text"


def test_exactly_the_existing_endpoints_are_documented() -> None:
    text = (DOCS / "reference" / "endpoints.md").read_text()
    output = set(re.findall(r"`((?:GET|POST|DELETE|PUT) /\S*)`", text))
    assert output == set(http_api.endpoints())
    pages = "".join(path.read_text() for path in sorted((DOCS / "api").glob("*.md")))
    for endpoint in http_api.endpoints():
        assert f"`{endpoint}`" in pages, f"no page of docs/api mentions {endpoint}"
        if "requestBody" in http_api.endpoints()[endpoint]:
            assert f"<!-- reference: fields {endpoint} -->" in pages


def test_each_error_has_its_status_type_and_code() -> None:
    output = {(row[0], row[3]): row for row in rows(page("reference/errors.md"))}
    assert len(python_api.errors()) >= 15
    for error in python_api.errors():
        code = f"`{error.code}`" if issubclass(error, RequestError) and error.code else ""
        row = output[f"`{error.__name__}`", code]
        assert row[-1], f"{error.__name__} has no docstring"
        if issubclass(error, RequestError):
            assert row[1:3] == [str(error.status), f"`{error.type}`"]


def test_each_hook_is_documented() -> None:
    text = page("reference/hooks.md")
    assert len(python_api.hooks()) == 7
    for name, hook in python_api.hooks().items():
        assert hook.__doc__, f"hook {name} has no docstring"
        assert f"\n## {name}\n" in text
        assert name in (DOCS / "plugins.md").read_text(), f"the guide does not mention {name}"


@pytest.mark.parametrize("module", [mlx_host.requests, mlx_host.events], ids=lambda module: module.__name__)
def test_each_request_and_event_is_documented(module: ModuleType) -> None:
    found = python_api.dataclasses_of(module)
    assert len(found) > 5
    text = page(f"reference/{module.__name__.rpartition('.')[2]}.md")
    for name, thing in found.items():
        assert thing.__doc__
        assert not thing.__doc__.startswith(f"{name}("), f"{name} has only the generated docstring"
        assert re.search(rf"^## {name}\b", text, re.MULTILINE)


def test_each_parser_is_documented() -> None:
    text = page("reference/parsers.md")
    for parser in installed.plugins().parsers.found.values():
        assert parser.description
        assert f"`{parser.name}`" in text


def test_each_flag_and_key_of_mlx_openai_server_is_documented() -> None:
    text = (DOCS / "coming-from-mlx-openai-server.md").read_text()
    for old in (*SERVER, *MODEL):
        assert f"`{flag_name(old.name)}`" in text, old.name
        assert old.key == old.name or f"`{old.key}`" in text, old.key
    for old in FILE_ONLY:
        assert f"`{old.key}`" in text


def test_supported_models_and_features_name_everything() -> None:
    models = (DOCS / "supported-models.md").read_text()
    for parser in installed.plugins().parsers.found.values():
        assert f"`{parser.name}`" in models, f"supported-models.md does not mention the parser {parser.name}"
    head = rows((DOCS / "features.md").read_text())[0]
    assert {f"`{name}`" for name in installed.backends()} <= set(head)


def test_the_plugin_directory_has_every_package() -> None:
    text = page("plugin-directory.md")
    for path in ROOT.glob("plugins/**/pyproject.toml"):
        config = tomllib.loads(path.read_text())
        if "entry-points" in config["project"]:
            assert f"| `{config['project']['name']}` |" in text
