"""The configured models: what to load, and with which settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mlx_host._host.parser_selection import AutoParser, ParserSelection
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import ModelConfig, ModelSettings, Settings, flag_name, option_values
from mlx_host._validation import field_path, reason
from mlx_host.backend import Backend
from mlx_host.errors import ModelNotFoundError, UsageError
from mlx_host.parsing import Parser


@dataclass(frozen=True)
class ModelLimits:
    """The limits of one model's requests; timeouts are in seconds.

    `max_concurrency` None means as many requests as the backend supports. A model that has running requests and makes
    no progress for `stall_timeout` seconds is restarted; 0 disables this.
    """

    max_concurrency: int | None = None
    queue_size: int = 100
    queue_timeout: float = 300.0
    stall_timeout: float = 120.0


DEFAULT_LIMITS = ModelLimits()


@dataclass(frozen=True)
class ModelSpec:
    """The configuration of one served model.

    `options` are those of the backend, as JSON values; `env` is added to the environment of the model's process.
    """

    name: str
    backend: str
    model: str | None
    options: Mapping[str, Any]
    env: Mapping[str, str]
    parsers: ParserSelection
    limits: ModelLimits


class Catalog:
    """The configured models of a server by name, in order. Immutable."""

    def __init__(self, specs: Iterable[ModelSpec] = ()) -> None:
        self._specs: dict[str, ModelSpec] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise UsageError(
                    f"Duplicate model name {spec.name!r}; set a different served_model_name for one of the models."
                )
            self._specs[spec.name] = spec

    @classmethod
    def from_settings(cls, settings: Settings, plugins: Plugins) -> Catalog:
        """Create the specifications of all models; UsageError if a setting is invalid."""
        return cls(model_spec(config, plugins) for config in settings.models)

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def resolve(self, name: str) -> ModelSpec:
        """Return the model with this name, or the only model whatever the name; raises ModelNotFoundError."""
        if name in self._specs:
            return self._specs[name]
        if len(self._specs) == 1:
            return next(iter(self._specs.values()))
        raise self._not_found(name)

    def with_spec(self, spec: ModelSpec) -> Catalog:
        """Return a catalog with one more model; UsageError if its name is taken."""
        return Catalog([*self._specs.values(), spec])

    def without(self, name: str) -> Catalog:
        """Return a catalog without the model with exactly this name; raises ModelNotFoundError."""
        if name not in self._specs:
            raise self._not_found(name)
        return Catalog(spec for spec in self._specs.values() if spec.name != name)

    def _not_found(self, name: str) -> ModelNotFoundError:
        available = ", ".join(sorted(self._specs)) or "none"
        if not name:
            message = f"The request has no model, and this server has several. Set model to one of: {available}."
        else:
            message = f"Model {name!r} not found. Available models: {available}."
        return ModelNotFoundError(message, param="model")


def model_spec(config: ModelConfig, plugins: Plugins) -> ModelSpec:
    """Create the specification of one model; UsageError if a setting, an option or the source is invalid."""
    settings = config.settings
    backend = plugins.backend(settings.backend)
    if settings.model is not None:
        plugins.source(settings.model)
    elif backend.needs_model:
        examples = "".join(f", for example {' or '.join(found)}" for found in [plugins.examples(backend)] if found)
        raise UsageError(
            f"--model is missing; backend {backend.name!r} requires it. "
            f"Use a local folder or a Hugging Face id{examples}."
        )
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
        problems = (f"{field_path(e['loc']) or 'options'}: {reason([e])}" for e in error.errors(include_url=False))
        raise UsageError(
            f"Invalid options of backend {backend.name!r} for model {config.settings.name!r}: {'; '.join(problems)}."
        ) from None


def select_parsers(plugins: Plugins, settings: ModelSettings) -> ParserSelection:
    """Return the parsers named in a model's settings; raises UsageError."""

    def find(setting: str, name: str | None) -> type[Parser] | None:
        if name == AutoParser.name:
            return AutoParser
        try:
            return plugins.parser(name) if name is not None else None
        except UsageError as error:
            raise UsageError(f"{flag_name(setting)}: {error}") from error

    both = find("parser", settings.parser)
    return ParserSelection(
        reasoning=find("reasoning_parser", settings.reasoning_parser) or both,
        tools=find("tool_call_parser", settings.tool_call_parser) or both,
        auto_tools=settings.enable_auto_tool_choice,
        repair_calls=settings.repair_tool_calls,
        stream_arguments=settings.stream_tool_arguments,
    )
