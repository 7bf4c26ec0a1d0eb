"""A backend can change the defaults of model settings; every other layer overrides them."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner
from mlx_host import hookimpl
from mlx_host._cli import build, builtin_commands
from mlx_host._cli.configuration import configure_model
from mlx_host._plugins import sources
from mlx_host._plugins.manager import Plugins
from mlx_host.backend import Backend, LoadContext, Model, Options


def load(load: LoadContext[Any]) -> Model:
    raise AssertionError("not loaded in these tests")


class Patient:
    @hookimpl
    def register_backends(self) -> list[Backend[Any]]:
        settings = {"max_concurrency": 1, "queue_size": 50, "queue_timeout": 600}
        return [
            Backend("patient", load, Options, needs_model=False, settings=settings),
            Backend("plain", load, Options, needs_model=False),
        ]


@pytest.fixture
def plugins() -> Plugins:
    return Plugins({"patient": Patient(), "commands": builtin_commands, "sources": sources}, installed=())


def test_a_backends_defaults_are_the_lowest_layer(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    own = configure_model(plugins, {"backend": "patient"}, {}, "the file").settings
    assert (own.max_concurrency, own.queue_size, own.queue_timeout) == (1, 50, 600)

    monkeypatch.setenv("MLX_HOST_QUEUE_SIZE", "7")
    flags = {"backend": "patient", "max_concurrency": 3}
    set_otherwise = configure_model(plugins, flags, {"queue_timeout": 20, "queue_size": 8}, "the file").settings
    assert set_otherwise.max_concurrency == 3
    assert set_otherwise.queue_size == 7
    assert set_otherwise.queue_timeout == 20


def test_other_backends_keep_the_general_defaults(plugins: Plugins) -> None:
    own = configure_model(plugins, {"backend": "plain"}, {}, "the file").settings
    assert (own.max_concurrency, own.queue_size, own.queue_timeout) == (None, 100, 300)


@pytest.mark.parametrize(("backend", "size"), [("patient", 50), ("plain", 100)])
def test_help_shows_the_backends_defaults(plugins: Plugins, backend: str, size: int) -> None:
    shown = CliRunner().invoke(build(plugins), ["run", "--backend", backend, "--help-all"]).output
    text = " ".join(shown.replace("│", " ").split())
    assert f"rejected with a 429. [default: {size}]" in text
