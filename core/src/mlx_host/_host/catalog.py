"""The configured models as specifications: what to load, with which settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mlx_host._host.parser_selection import Auto, ParserSelection
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import ModelConfig, ModelSettings, Settings, flag_name, option_values
from mlx_host.backend import Backend
from mlx_host.errors import ModelNotFoundError, UsageError
from mlx_host.parsing import Parser


@dataclass(frozen=True)
class ModelLimits:
    """The limits of one model: running and waiting requests, and seconds.

    `max_concurrency` None: as many as the backend supports. A model that has requests but makes no progress for
    `stall_timeout` seconds is restarted; 0: never.
    """

    max_concurrency: int | None = None
    queue_size: int = 100
    queue_timeout: float = 300.0
    stall_timeout: float = 120.0


DEFAULT_LIMITS = ModelLimits()


@dataclass(frozen=True)
class ModelSpec:
    """Everything that is needed to serve one model; comparable, not hashable.

    `options` are the backend's, as JSON values; `env` are variables for the model's process.
    """

    name: str
    backend: str
    model: str | None
    options: Mapping[str, Any]
    env: Mapping[str, str]
    parsers: ParserSelection
    limits: ModelLimits


class Catalog:
    """The models of a server, by name and in order. Immutable; starts no process and loads nothing."""

    def __init__(self, specs: Iterable[ModelSpec] = ()) -> None:
        self._specs: dict[str, ModelSpec] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise UsageError(f"Two models are named {spec.name!r}; set served_model_name for one of them.")
            self._specs[spec.name] = spec

    @classmethod
    def from_settings(cls, settings: Settings, plugins: Plugins) -> Catalog:
        """Make the specifications of all models; UsageError for whatever can be found without loading them."""
        return cls(model_spec(config, plugins) for config in settings.models)

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def resolve(self, name: str) -> ModelSpec:
        """Find a model by name; a single model answers to any name. ModelNotFoundError lists the available ones."""
        if name in self._specs:
            return self._specs[name]
        if len(self._specs) == 1:
            return next(iter(self._specs.values()))
        raise self._not_found(name)

    def with_spec(self, spec: ModelSpec) -> Catalog:
        """Return a catalog with one more model; UsageError if there is one of that name."""
        return Catalog([*self._specs.values(), spec])

    def without(self, name: str) -> Catalog:
        """Return a catalog without this model; ModelNotFoundError if there is none of exactly this name."""
        if name not in self._specs:
            raise self._not_found(name)
        return Catalog(spec for spec in self._specs.values() if spec.name != name)

    def _not_found(self, name: str) -> ModelNotFoundError:
        available = ", ".join(sorted(self._specs)) or "none"
        return ModelNotFoundError(f"Model {name!r} not found. Available models: {available}.", param="model")


def model_spec(config: ModelConfig, plugins: Plugins) -> ModelSpec:
    """Make the specification of one model; UsageError if the backend, an option, the source or a parser is wrong."""
    settings = config.settings
    backend = plugins.backend(settings.backend)
    if settings.model is not None:
        plugins.source(settings.model)
    elif backend.needs_model:
        raise UsageError(f"--model is missing: backend {backend.name!r} needs one.")
    return ModelSpec(
        settings.name,
        backend.name,
        settings.model,
        _options(backend, config),
        settings.env,
        select_parsers(plugins, settings),
        ModelLimits(settings.max_concurrency, settings.queue_size, settings.queue_timeout, settings.stall_timeout),
    )


def _options(backend: Backend[Any], config: ModelConfig) -> dict[str, Any]:
    try:
        return option_values(backend.options.model_validate(config.options))
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc'])) or 'options'}: {e['msg']}" for e in error.errors(include_url=False))
        raise UsageError(
            f"Invalid options of backend {backend.name!r} for model {config.settings.name!r}: {'; '.join(faults)}."
        ) from None


def select_parsers(plugins: Plugins, settings: ModelSettings) -> ParserSelection:
    """Find the parsers that a model's settings name."""

    def find(setting: str, name: str | None) -> type[Parser] | None:
        if name == Auto.name:
            return Auto
        try:
            return plugins.parser(name) if name is not None else None
        except UsageError as error:
            raise UsageError(f"{flag_name(setting)}: {error}") from error

    both = find("parser", settings.parser)
    return ParserSelection(
        reasoning=find("reasoning_parser", settings.reasoning_parser) or both,
        tools=find("tool_call_parser", settings.tool_call_parser) or both,
        auto_tools=settings.enable_auto_tool_choice,
    )
