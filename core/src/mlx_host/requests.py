"""The requests that models serve: frozen, picklable dataclasses, routed by their type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar, Literal, Protocol

from mlx_host.grammar import Constraint, Grammar

Json = Mapping[str, Any]


class Priority(IntEnum):
    """Position in the queue: requests with a lower value are started first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Base class of all requests: an id, the model's served name, and a priority.

    `task` names the request type in messages to users.
    """

    task: ClassVar[str] = "request"

    id: str
    model: str
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling parameters; None selects the model's default.

    Ranges are those of OpenAI, or of mlx-lm for parameters that OpenAI does not have. `temperature` 0 is greedy
    decoding. `logit_bias` maps token ids to a value that is added to their logits. `seed` makes the output
    reproducible.

    The fields from `min_tokens` on are optional for models; `Model.supported_parameters` names those that are honoured.
    The output ends neither with an end-of-sequence token nor with one of `stop_token_ids` before it has `min_tokens`
    tokens, and with `ignore_eos` it never ends with an end-of-sequence token. `bad_words` never occur in it. A token of
    `stop_token_ids` ends it, and is part of its text unless it is a special token. `allowed_token_ids` excludes all
    other tokens.
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
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    bad_words: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReasoningMarkup:
    """The strings that open and close reasoning in a model's output, and the one that is forced to close it."""

    open: tuple[str, ...]
    close: tuple[str, ...]
    closing: str


class CallNotation(Protocol):
    """How the models of a family write tool calls and receive the results.

    Parser classes implement it, rather than their instances, because a class can be pickled.
    """

    def write_calls(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Write calls, given as names and arguments, once in each format; empty if the family has none."""

    def write_result(self, name: str, content: str) -> str:
        """Write the result of the function `name`, which is empty if it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest(Request):
    """Base class of the requests that generate text: `n` choices, numbered from 0.

    `max_tokens` None: generate until the model ends or the context is full. Core matches the `stop` strings; models can
    ignore them. `include_stop` keeps the matched stop string in the text. A request with a `cache_salt` must not share
    a prefix cache with requests that have another one or none. `top_logprobs` None: no log-probabilities; 0: only those
    of the sampled tokens. `output_format` is the grammar of the content that the client requested. From it, the tools
    and the parser, the host derives `constraint`, which models with `supports_structured_outputs` apply to the output
    of each choice.
    """

    task: ClassVar[str] = "generation"

    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    cache_salt: str | None = None
    top_logprobs: int | None = None
    n: int = 1
    output_format: Grammar | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(GenerationRequest):
    """A chat completion.

    `messages` and `tools` have OpenAI's JSON format, with the role `developer` replaced by `system`. `tools` are those
    offered to the model: empty if `tool_choice` is "none". `allowed_tools` are the names of the tools that it may call;
    None: all. `template_kwargs` are passed to the chat template. After `max_reasoning_tokens` tokens of reasoning, a
    model that supports this parameter is forced to close the reasoning; None selects the model's default.

    `add_generation_prompt` False omits what the chat template appends after the last message. With
    `continue_final_message`, the prompt ends with the text of the last message, which is from the assistant and has no
    calls, and the output continues it; models that support this name it in `Model.supported_parameters`.

    With `stream_tool_arguments`, which APIs set for streams, the reply may contain ToolCallDelta parts.

    The host sets `reasoning_markup` if a parser extracts the model's reasoning, and `call_notation` if one extracts its
    calls.
    """

    task: ClassVar[str] = "chat"

    messages: Sequence[Json]
    tools: Sequence[Json] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    allowed_tools: Sequence[str] | None = None
    parallel_tool_calls: bool = True
    template_kwargs: Json = field(default_factory=dict)
    max_reasoning_tokens: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    stream_tool_arguments: bool = False
    reasoning_markup: ReasoningMarkup | None = None
    call_notation: CallNotation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(GenerationRequest):
    """A text completion: text or token ids to continue, without a chat template.

    `suffix` is the text after the completion (fill-in-the-middle). `echo` requests a PromptEcho, with log-probabilities
    if `top_logprobs` is set. `special_tokens` adds the tokenizer's initial special tokens, such as BOS, to a text that
    does not begin with them; token ids are used unchanged.
    """

    task: ClassVar[str] = "completion"

    prompt: str | Sequence[int]
    suffix: str | None = None
    echo: bool = False
    special_tokens: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest(Request):
    """Tokenize a text or a chat prompt; the output is Tokenized. The context length does not limit it.

    With `count_only`, only the number of tokens is needed: a model may yield TokenCount instead.

    Of a ChatRequest, only the fields that determine the prompt matter. `special_tokens` is as in CompletionRequest and
    applies to text only: chat templates insert special tokens themselves.
    """

    task: ClassVar[str] = "tokenization"

    prompt: str | ChatRequest
    special_tokens: bool = True
    count_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRequest(Request):
    """Describe how a model would process a chat request, without generating text; the output is Explained."""

    task: ClassVar[str] = "explanation"

    prompt: ChatRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerInfoRequest(Request):
    """Describe the tokenizer; the output is TokenizerInfo."""

    task: ClassVar[str] = "tokenizer information"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeRequest(Request):
    """Convert token ids to text, including special tokens; the output is one TextDelta."""

    task: ClassVar[str] = "detokenization"

    tokens: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionRequest(Request):
    """Transcribe speech in the spoken language.

    `audio` is the uploaded file, in any common format. `language` is an ISO 639-1 code or an English name; None detects
    the language. `prompt` is text that precedes the transcript. `temperature` None or 0 is greedy decoding with the
    model's temperature fallback.
    """

    task: ClassVar[str] = "transcription"

    audio: bytes = field(repr=False)
    language: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    word_timestamps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationRequest(TranscriptionRequest):
    """Translate speech to English text."""

    task: ClassVar[str] = "translation"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest(Request):
    """Compute one embedding for each input; models may process the inputs in any order.

    An input is a text, or token ids that are used unchanged. `images`, if not empty, has one URL for each input; the
    text of such an input may be empty. `dimensions` None: all. `truncate` shortens inputs that are too long instead of
    rejecting them. `input_type` selects the prompt that instruction-tuned models prepend to a text.
    """

    task: ClassVar[str] = "embeddings"

    inputs: Sequence[str | Sequence[int]]
    images: Sequence[str] = ()
    dimensions: int | None = None
    truncate: bool = False
    input_type: Literal["query", "document"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest(Request):
    """Base class of the requests that generate `n` images, with the seeds `seed`, `seed` + 1 and so on.

    None selects the model's default. `size` is width and height in pixels. `partial_images` is the maximum number of
    previews of each image. `output_compression` is the quality of JPEG and WebP files, from 0 to 100.
    """

    task: ClassVar[str] = "image"

    prompt: str
    seed: int
    n: int = 1
    negative_prompt: str | None = None
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    partial_images: int = 0
    format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGenerationRequest(ImageRequest):
    """Generate images from a prompt."""

    task: ClassVar[str] = "image generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEditRequest(ImageRequest):
    """Edit images according to a prompt.

    `images` and `mask` are the uploaded files. The mask applies to the first image: the edit is limited to its
    transparent pixels, or to its white pixels if it has no alpha channel.
    """

    task: ClassVar[str] = "image edit"

    images: Sequence[bytes] = field(repr=False)
    mask: bytes | None = field(default=None, repr=False)
