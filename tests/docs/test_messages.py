"""The error messages of all packages are sentences, as CONTRIBUTING.md describes."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from mlx_host.api.errors import BackendContractError

from scripts.reference import python_api
from tests.docs.blocks import ROOT

# Their texts become part of another message.
CLAUSES = {"PluginError", BackendContractError.__name__}
ERRORS = {error.__name__ for error in python_api.errors()} - CLAUSES
SOURCES = [
    *(ROOT / "core/src").rglob("*.py"),
    *(ROOT / "plugins").rglob("src/**/*.py"),
    *(ROOT / "plugins/parsers").rglob("mlx_host_parser_*/**/*.py"),
]
# Words that no field, setting or package begins with.
WORDS = {"a", "all", "an", "at", "backend", "cannot", "every", "invalid", "no", "the", "this", "unknown", "your"}


def text(node: ast.expr) -> str | None:
    """Return the text of a string literal with `{}` for each placeholder, None for other expressions."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def messages() -> Iterator[tuple[str, str]]:
    """Yield FILE:LINE and the message of each error that is created with a literal message."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in ERRORS and (message := text(node.args[0])) is not None:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", message


MESSAGES = list(messages())


def is_sentence(message: str) -> bool:
    return message.endswith((".", "{}")) and message.split(" ")[0] not in WORDS


def test_all_messages_are_sentences() -> None:
    assert len(MESSAGES) > 200
    assert [f"{place} {message}" for place, message in MESSAGES if not is_sentence(message)] == []


@pytest.mark.parametrize("message", ["the prompt is empty.", "The prompt is empty", "no such model {}"])
def test_a_clause_is_found(message: str) -> None:
    assert not is_sentence(message)
