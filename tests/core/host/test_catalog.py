"""The catalog: specifications of the configured models, and every error that is found without loading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlx_host import hookimpl
from mlx_host._host.catalog import Catalog, ModelLimits, ModelSpec
from mlx_host._host.parser_selection import AutoParser, ParserSelection
from mlx_host._plugins import sources
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import HostSettings, ModelConfig, ModelSettings, Settings
from mlx_host.backend import Backend, LoadContext, Model, Options
from mlx_host.errors import ModelNotFoundError, UsageError


class SizedOptions(Options):
    size: int = 1
    folder: Path = Path("x")


def load(load: LoadContext[Any]) -> Model:
    raise AssertionError("a catalog loads nothing")


@hookimpl
def register_backends() -> list[Backend[Any]]:
    return [Backend("sized", load, SizedOptions, needs_model=False), Backend("needy", load, Options)]


PLUGINS = Plugins({"sources": sources, "sized": SimpleNamespace(register_backends=register_backends)}, installed=[])


def catalog(*models: tuple[dict[str, Any], dict[str, Any]]) -> Catalog:
    configs = tuple(ModelConfig(ModelSettings(**{"backend": "sized", **own}), options) for own, options in models)
    return Catalog.from_settings(Settings(HostSettings(), configs, {}), PLUGINS)


def named(*names: str) -> Catalog:
    return catalog(*(({"served_model_name": name}, {}) for name in names))


def test_a_specification_is_complete() -> None:
    (spec,) = catalog(
        (
            {
                "served_model_name": "m",
                "model": ".",
                "env": {"A": "1"},
                "parser": "auto",
                "max_concurrency": 2,
                "queue_size": 3,
                "queue_timeout": 4,
                "stall_timeout": 5,
                "enable_auto_tool_choice": False,
            },
            {"size": 7},
        )
    )
    assert spec == ModelSpec(
        name="m",
        backend="sized",
        model=".",
        options={"size": 7, "folder": "x"},
        env={"A": "1"},
        parsers=ParserSelection(AutoParser, AutoParser, auto_tools=False),
        limits=ModelLimits(2, 3, 4, 5),
    )


@pytest.mark.parametrize(
    ("own", "options", "part"),
    [
        ({"backend": "nope"}, {}, "Unknown backend 'nope'. Installed backends: needy, sized."),
        ({"backend": "needy"}, {}, "--model is missing; backend 'needy' requires it."),
        ({"model": "no such model"}, {}, "--model 'no such model': no such folder or file"),
        ({"tool_call_parser": "nope"}, {}, "--tool-call-parser: Unknown parser 'nope'."),
        ({}, {"size": "many"}, "Invalid options of backend 'sized' for model 'sized': size: "),
        ({}, {"sizes": 1}, "Invalid options of backend 'sized' for model 'sized': sizes: "),
    ],
)
def test_invalid_settings_are_found_without_loading(own: dict[str, Any], options: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog((own, options))
    assert part in str(error.value)


def test_duplicate_names_are_rejected() -> None:
    with pytest.raises(UsageError, match="'a'"):
        named("a", "b", "a")
    with pytest.raises(UsageError, match="'a'"):
        named("a").with_spec(next(iter(named("a"))))


def test_resolve() -> None:
    one, two = named("a"), named("b", "a")
    assert one.resolve("anything").name == "a"
    assert two.resolve("a").name == "a"
    with pytest.raises(ModelNotFoundError) as error:
        two.resolve("c")
    assert error.value.param == "model"
    with pytest.raises(ModelNotFoundError):
        Catalog().resolve("a")


def test_models_are_added_and_removed_in_a_new_catalog() -> None:
    one = named("a")
    more = one.with_spec(replace(one.resolve("a"), name="b"))
    assert [spec.name for spec in one] == ["a"]
    assert [spec.name for spec in more] == ["a", "b"]
    assert [spec.name for spec in more.without("a")] == ["b"]
    with pytest.raises(ModelNotFoundError, match="a, b"):
        more.without("c")
    with pytest.raises(ModelNotFoundError):
        one.without("anything")
