"""What a backend plugin provides: a Backend that loads a Model, and the Model that answers requests."""

from __future__ import annotations

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
    """The base of every backend's options: unknown keys are refused, field descriptions are the help texts.

    A field `context_length` is the flag `--context-length`, the key `context_length` of `[[models]]` and the variable
    `MLX_HOST_CONTEXT_LENGTH`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsT = TypeVar("OptionsT", bound=Options)


class LoadProgress(Protocol):
    """Reports how far loading is: `stage` is "download", "convert", "load" or "warm-up"; units are the caller's."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from; `fetch` makes it a local folder or file, downloading or converting if it must.

    Making a Source is cheap and touches no network; `fetch` runs in the model's own process.
    """

    ref: str
    describe: str
    fetch: Callable[[LoadProgress], Path]


@dataclass(frozen=True)
class LoadContext(Generic[OptionsT]):
    """What a backend loads from: the reference as given, its local path (None where no model is needed), options."""

    ref: str | None
    path: Path | None
    options: OptionsT
    progress: LoadProgress


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a loaded model can do: one immutable value, sent from its process to the host.

    `concurrency` is the number of requests that can run at once, `context_length` is in tokens. `chat_template` is the
    template's source. `structured_outputs`: `GenerationRequest.constraint` is honoured. `tools` and `reasoning` are
    set by the host: whether a parser reads the model's tool calls and reasoning.
    """

    supported_requests: tuple[type[Request], ...] = (ChatRequest,)
    concurrency: int = 1
    context_length: int | None = None
    chat_template: str | None = None
    structured_outputs: bool = False
    tools: bool = False
    reasoning: bool = False


class Model(ABC):
    """A loaded model. It lives on one thread of one process and needs no lock, thread or queue.

    `supported_requests` are the types of request it takes; the type of a request routes it. `concurrency` is how many generators
    may be open at once. `context_length` is in tokens. `chat_template` is the source that `--parser auto` reads.
    `supports_structured_outputs` says that `GenerationRequest.constraint` is honoured.
    """

    supported_requests: ClassVar[tuple[type[Request], ...]] = (ChatRequest,)
    concurrency: int = 1
    context_length: int | None = None
    chat_template: str | None = None
    supports_structured_outputs: bool = False

    @abstractmethod
    def generate(self, request: Any) -> Iterator[Event | None]:
        """Answer one request of a type in `supported_requests`: Started, any events, Finished.

        The engine advances the open generators in turn; None gives way without saying anything, Several says several
        things in one turn. Raising RequestError refuses or ends this request alone. Cancelling closes the generator:
        release in `finally` what it holds.
        """

    def close(self) -> None:  # noqa: B027  an empty default is meant
        """Release what the model holds; no generator is open any more."""


@dataclass(frozen=True)
class Backend(Generic[OptionsT]):
    """A kind of model that can be loaded, by name.

    `load` imports what it needs itself, so that naming a backend costs nothing. `supported_requests` is what its models can serve
    at most. `needs_model` False means that `--model` may be left out. `settings` are its models' defaults where they
    differ from mlx-host's own, such as {"queue_size": 50}.
    """

    name: str
    load: Callable[[LoadContext[OptionsT]], Model]
    options: type[OptionsT]
    supported_requests: tuple[type[Request], ...] = (ChatRequest,)
    needs_model: bool = True
    summary: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def message_text(message: Json) -> str:
    """Return the text of a message whose content is a string or a list of text parts.

    For models that accept text only: UnsupportedRequestError if the message has no content or a part of another type.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UnsupportedRequestError("messages: a message has no content; this model needs text.", param="messages")
    for part in content:
        if part.get("type") != "text":
            raise UnsupportedRequestError(
                f"messages: content parts of type {part.get('type')!r} are not supported; this model takes text only.",
                param="messages",
            )
        if not isinstance(part.get("text"), str):
            raise UnsupportedRequestError("messages: a content part of type 'text' has no text.", param="messages")
    return "".join(part["text"] for part in content)
