"""Tables and sentences of the README are checked against the code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from mlx_host._settings import flag_name

from scripts import reference
from tests.docs.blocks import PACKAGE_PAGES, ROOT, Block
from tests.docs.checks import read_arguments
from tests.docs.test_reference import rows

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *PACKAGE_PAGES]


def part(title: str) -> str:
    """The text under a heading."""
    _, heading, rest = README.partition(f"\n## {title}\n")
    assert heading, title
    return rest.partition("\n## ")[0]


def commands() -> Iterator[tuple[str, str]]:
    """The complete mlx-host commands in the sentences and tables of all pages; capitals are placeholders."""
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for command in dict.fromkeys(re.findall(r"`mlx-host ([^`]+)`", prose)):
            if "…" not in command and not re.search(r"\b[A-Z]{4,}\b", command):
                yield str(page.relative_to(ROOT)), command


@pytest.mark.parametrize(("page", "command"), [*commands()])
def test_commands_in_sentences_are_valid(page: str, command: str) -> None:
    words = command.split()
    # A command's name, or its beginning, can be mentioned without its required arguments.
    complete = "--model" in words or words[0] not in ("run", "launch", "bench", "parser")
    complete = complete and command != "plugins new"
    read_arguments(Block(page, 0, "sh", "", command), words if complete else [*words, "--help"])


def test_each_extra_is_in_the_table_and_each_backend_has_a_command() -> None:
    extras = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    commands = {extra: command for extra, _, command in rows(part("Install"))[1:]}
    assert set(commands) == {f"`mlx-host[{extra}]`" for extra in extras if extra != "testing"}
    for name in reference.backends():
        assert commands[f"`mlx-host[{name}]`"].startswith(f"`mlx-host run --backend {name} ")


def test_each_endpoint_is_in_the_table() -> None:
    result = set()
    for cell, _ in rows(part("Endpoints"))[1:]:
        method, first = "", ""
        for word in re.findall(r"`([^`]+)`", cell):
            *output, path = word.split()
            method = output[0] if output else method
            if path in ("GET", "DELETE"):
                continue
            if path.startswith("…"):
                path = (first if first.endswith("}") or "count" in path else first.rpartition("/")[0]) + path[1:]
            else:
                first = path
            result.add(path)
    # Endpoints that only follow from others.
    lesser = {"/v1/images/variations", "/v1/images/files/{name}", "/v1/images/jobs/{id}", "/", "/docs", "/openapi.json"}
    assert result == {endpoint.partition(" ")[2] for endpoint in reference.endpoints()} - lesser


def test_each_parser_is_in_the_table() -> None:
    named = set(re.findall(r"`(\w+)`", " ".join(row[0] for row in rows(part("Parsers"))[1:])))
    found = reference.plugins().parsers.found
    assert {parser.name for parser in found.values()} <= named
    assert named <= set(found)


def test_the_named_flags_exist() -> None:
    fields = {
        flag
        for row in rows("\n".join(map(reference.section, ("server-settings", "model-settings", "api-settings"))))
        for flag in row[:1]
    }
    fields |= {row[0] for row in rows(reference.section("options"))}
    known = set(re.findall(r"--[\w-]+", " ".join(fields))) | {"--help", "--kind", "--config", flag_name("model_type")}
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert set(re.findall(r"--[a-z][\w-]+", prose)) <= known


def test_the_example_backend_has_the_stated_length() -> None:
    code = re.search(r'```python title="shout/mlx_host_shout.py"\n(.*?)```', README, re.DOTALL)
    assert code is not None
    assert len(code[1].splitlines()) <= 31


def test_the_numbers_are_those_of_the_benchmarks() -> None:
    measured: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows((ROOT / "docs" / "benchmarks.md").read_text()):
        if len(row) == 8 and row[2] in ("engine directly", "mlx-host", "mlx_lm.server"):
            measured.setdefault((row[0], row[1]), {})[row[2]] = row[3]
    shown = {(row[0], row[1]): row[2:] for row in rows(part("Performance"))[1:]}
    assert len(shown) == len(measured) > 3
    for key, numbers in shown.items():
        assert numbers == [measured[key][column] for column in ("engine directly", "mlx-host", "mlx_lm.server")], key


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_links_are_valid(target: str) -> None:
    assert (ROOT / target).exists()
