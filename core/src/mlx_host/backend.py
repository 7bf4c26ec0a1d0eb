"""The interface of backend plugins: a Backend loads a Model, and the Model generates events for requests."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from mlx_host.errors import UnsupportedRequestError
from mlx_host.events import Event
from mlx_host.requests import ChatRequest, Json, Request


class Options(BaseModel):
    """Base class of a backend's options: unknown keys are rejected, field descriptions are the help texts.

    A field `context_length` becomes the flag `--context-length`, the key `context_length` in `[[models]]` and the
    environment variable `MLX_HOST_CONTEXT_LENGTH`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=Options)


class LoadProgress(Protocol):
    """Callback that reports loading progress: `done` of `total` units of a stage.

    `stage` is "download", "convert", "load" or "warm-up". `note` is the unit, such as "bytes", or a detail such as a
    file name.
    """

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from; `fetch` downloads or converts it if necessary and returns a local folder or file.

    `ref` is the reference as given with `--model`, `description` is for log and error messages. Creating a
    ModelSource must be cheap and must not access the network; `fetch` runs in the model's process.
    """

    ref: str
    description: str
    fetch: Callable[[LoadProgress], Path]


@dataclass(frozen=True)
class LoadContext(Generic[OptionsT]):
    """The arguments of `Backend.load`.

    `ref` is the value of `--model` and `path` the local folder or file that it resolved to; both are None if no model
    was given. `progress` reports loading progress.
    """

    ref: str | None
    path: Path | None
    options: OptionsT
    progress: LoadProgress


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a loaded model supports; sent from the model's process to the host.

    `concurrency` is the maximum number of running requests, `context_length` is in tokens, `chat_template` is the
    template's source. `structured_outputs`: whether the model honours `GenerationRequest.constraint`.
    `supported_parameters`, `sampling_defaults` and `input_modalities` are as in Model. The host sets `tools` and
    `reasoning`: whether a parser extracts the model's tool calls and reasoning.
    """

    supported_requests: tuple[type[Request], ...] = (ChatRequest,)
    concurrency: int = 1
    context_length: int | None = None
    chat_template: str | None = None
    structured_outputs: bool = False
    tools: bool = False
    reasoning: bool = False
    supported_parameters: frozenset[str] = frozenset()
    sampling_defaults: Mapping[str, float] = field(default_factory=dict)
    input_modalities: frozenset[str] | None = None


class Model(ABC):
    """A loaded model. All calls are made on one thread of its process, so a model needs no locks.

    `supported_requests` are the request types that `generate` accepts. `concurrency` is the maximum number of open
    generators. `context_length` is in tokens. `chat_template` is the template's source, from which `--parser auto`
    selects a parser. `supports_structured_outputs`: whether `GenerationRequest.constraint` is honoured.
    `supported_parameters` names the optional parameters that are honoured: fields of Sampling from `min_tokens` on, and
    "max_reasoning_tokens" and "continue_final_message". Core rejects requests that use other ones, and reports
    `max_reasoning_tokens` as ignored.
    `sampling_defaults` are the values of fields of Sampling that apply if a request does not set them; APIs
    report them. `input_modalities` are the kinds of input that messages may contain: "text", "image", "audio"; None:
    unknown. APIs omit others from the history of a conversation, which a client cannot change.
    """

    supported_requests: ClassVar[tuple[type[Request], ...]] = (ChatRequest,)
    concurrency: int = 1
    context_length: int | None = None
    chat_template: str | None = None
    supports_structured_outputs: bool = False
    supported_parameters: frozenset[str] = frozenset()
    sampling_defaults: Mapping[str, float] = {}
    input_modalities: frozenset[str] | None = None

    @abstractmethod
    def generate(self, request: Any) -> Iterator[Event | None]:
        """Yield the events of one request: Started, any other events, Finished.

        The engine steps the open generators in turn. Yield None to let other requests run without producing output,
        and EventBatch to emit several events in one step. A RequestError fails only this request: before Started it
        rejects the request, after Started it ends the response with an error. If the request is cancelled, the
        generator is closed: release resources in `finally`.
        """

    def close(self) -> None:  # noqa: B027  overriding it is optional
        """Release the model's resources; called once, after all generators have been closed."""


@dataclass(frozen=True)
class Backend(Generic[OptionsT]):
    """Loads models of one kind; `name` is the value of `--backend`.

    `load` should import heavy libraries itself, so that listing backends stays fast. `supported_requests` are all
    request types that its models may support. If `needs_model` is False, `--model` is optional. `settings` override
    mlx-host's defaults for models of this backend, for example {"queue_size": 50}.

    `accepts` returns why a backend cannot load a local model folder or file, and None if it can; without it, mlx-host
    does not know. It is called in any process, so it must be quick and must not import MLX: look at `read_config` and
    the names of files. `examples` are values of `--model` to suggest; those that cannot be resolved are not shown.
    """

    name: str
    load: Callable[[LoadContext[OptionsT]], Model]
    options: type[OptionsT]
    supported_requests: tuple[type[Request], ...] = (ChatRequest,)
    needs_model: bool = True
    summary: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    accepts: Callable[[Path], str | None] | None = None
    examples: tuple[str, ...] = ()


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the config.json of a model folder; None if there is none, or if it is not a JSON object."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def message_text(message: Json) -> str:
    """Return the text of a chat message whose content is a string or a list of text parts.

    For text-only models. Raises UnsupportedRequestError if the message has no content or contains other parts.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UnsupportedRequestError("messages: a message has no content; this model requires text.", param="messages")
    for part in content:
        if part.get("type") != "text":
            raise UnsupportedRequestError(
                f"messages: content parts of type {part.get('type')!r} are not supported by this text-only model.",
                param="messages",
            )
        if not isinstance(part.get("text"), str):
            raise UnsupportedRequestError(
                "messages: a content part of type 'text' must have a string 'text'.", param="messages"
            )
    return "".join(part["text"] for part in content)
