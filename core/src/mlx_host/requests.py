"""What a model can be asked: frozen, picklable dataclasses whose type decides who serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Literal

from mlx_host.grammar import Constraint, Grammar

Json = Mapping[str, Any]


class Priority(IntEnum):
    """Where a request stands in the queue; lower goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What every request has: an id, the served name of the model it is for, and a priority.

    `task` is the word for this kind of request in messages to users.
    """

    task: ClassVar[str] = "request"

    id: str
    model: str
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen; None means the model's own default.

    Ranges are OpenAI's where OpenAI has the parameter, mlx-lm's where it does not. `temperature` 0 is greedy.
    `logit_bias` maps token ids to what is added to their logits. `seed` makes an answer repeatable.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    repetition_context_size: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest(Request):
    """Something to be continued by `n` answers of text, numbered by `choice`.

    `max_tokens` None means until the model ends or the context is full. `stop` is matched by core, on text; a model
    need not look at it. `top_logprobs` None means no log-probabilities, 0 those of the chosen tokens alone. `form` is
    what the client wants the content to be; `constraint`, which the host makes of that, of the tools and of the parser
    when the model is up, is what a model that `supports_structured_outputs` holds each answer to.
    """

    task: ClassVar[str] = "generation"

    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    n: int = 1
    form: Grammar | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(GenerationRequest):
    """A conversation to be continued by one assistant message.

    `messages` and `tools` are OpenAI's JSON shapes (role `developer` already reads `system`). `tools` are those that
    the model is shown: none when `tool_choice` is "none". `allowed_tools` names those of them that it may call; None:
    all. `template_kwargs` go to the chat template as they are.
    """

    task: ClassVar[str] = "chat"

    messages: Sequence[Json]
    tools: Sequence[Json] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    allowed_tools: Sequence[str] | None = None
    parallel_tool_calls: bool = True
    template_kwargs: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(GenerationRequest):
    """A text, or token ids, to be gone on with as it stands, without a chat template.

    `suffix` is what comes after the answer. `echo` asks for Echoed: the prompt, with its log-probabilities if those of
    the answer are asked for. `special_tokens` lets the tokenizer add the tokens that it begins a text with, such as
    BOS, where the text does not begin with them; token ids are taken as they are.
    """

    task: ClassVar[str] = "completion"

    prompt: str | Sequence[int]
    suffix: str | None = None
    echo: bool = False
    special_tokens: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest(Request):
    """What the model would read of a text or a conversation; the answer is Tokenized, however long it is.

    Of a ChatRequest only what makes the prompt counts. Without `generation_prompt` it ends with its last message.
    `special_tokens` is what it is for a CompletionRequest, and for text alone: a chat template writes them itself.
    """

    task: ClassVar[str] = "tokenization"

    prompt: str | ChatRequest
    special_tokens: bool = True
    generation_prompt: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeRequest(Request):
    """Token ids whose text is wanted, special tokens included; the answer is one Text."""

    task: ClassVar[str] = "detokenization"

    tokens: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionRequest(Request):
    """Speech to be written down in the language that is spoken.

    `audio` is a file of any usual format, as the client sent it. `language` is an ISO 639-1 code or an English name;
    None lets the model find out. `prompt` is text for the transcript to go on from. `temperature` None or 0 is greedy,
    with the model's own retries where that fails. `words` asks for the time of each word.
    """

    task: ClassVar[str] = "transcription"

    audio: bytes = field(repr=False)
    language: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    words: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationRequest(TranscriptionRequest):
    """Speech to be written down in English."""

    task: ClassVar[str] = "translation"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest(Request):
    """Inputs that become one vector each, in any order of work.

    An input is a text, or token ids that are taken as they are. `images`, if there are any, holds one URL for each
    input; a text beside an image may be empty. `dimensions` None means all. `truncate` cuts what is too long.
    `input_type` tells models that were trained with instructions which one goes before a text.
    """

    task: ClassVar[str] = "embeddings"

    inputs: Sequence[str | Sequence[int]]
    images: Sequence[str] = ()
    dimensions: int | None = None
    truncate: bool = False
    input_type: Literal["query", "document"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest(Request):
    """`n` pictures for a prompt, made from the seeds `seed`, `seed` + 1 and so on.

    None means the model's own default; a `size` is width and height in pixels. `partials` is how often, at most, an
    unfinished picture is shown. `compression` is the quality of JPEG and WebP, from 0 to 100.
    """

    task: ClassVar[str] = "image"

    prompt: str
    seed: int
    n: int = 1
    negative_prompt: str | None = None
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    partials: int = 0
    format: Literal["png", "jpeg", "webp"] = "png"
    compression: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGenerationRequest(ImageRequest):
    """Pictures to be made of the prompt alone."""

    task: ClassVar[str] = "image generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEditRequest(ImageRequest):
    """Pictures to be made of others, as the prompt says.

    `images` and `mask` are files as the client sent them. The mask goes with the first image; where it is transparent,
    or white if it has no transparency, the picture is to change.
    """

    task: ClassVar[str] = "image edit"

    images: Sequence[bytes] = field(repr=False)
    mask: bytes | None = field(default=None, repr=False)
