"""Request fields that the text APIs share: sampling, stop strings, priority, structured output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mlx_host.api.history_media import omit_media
from mlx_host.api.ignored_fields import ignored_fields
from mlx_host.api.response_format import STRUCTURED, StructuredOutputs, reject_removed_fields
from mlx_host.api.service import ModelStatus
from mlx_host.api.tool_choice import is_strict
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Grammar
from mlx_host.requests import ChatRequest, Priority, Sampling

PRIORITIES = {"flex": Priority.LOW, "priority": Priority.HIGH, "fast": Priority.HIGH, "ultrafast": Priority.HIGH}
SAMPLING = tuple(name for name in Sampling.__dataclass_fields__ if name != "logit_bias")
MAX_STOPS = 16
# Characters of a stop string: each end of the output is compared with its beginnings.
MAX_STOP_LENGTH = 1000
MAX_TOKEN_IDS = 131_072
MAX_BAD_WORDS = 256
MAX_BAD_WORD_LENGTH = 256
# vLLM's parameters that would change the output, and are not supported: the values that do not request anything.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "chat_template": (),
    "detokenize": (True,),
    "echo": (False,),
    "logits_processors": ([],),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "repetition_detection": (),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
}

Number = Annotated[float, Field(allow_inf_nan=False)]
# The ranges that samplers and schedulers can represent: a signed or unsigned 64-bit integer.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Tokens = Annotated[int, Field(ge=1, lt=2**63)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=MAX_TOKEN_IDS)]


class SamplingBody(BaseModel):
    """Sampling parameters; those that OpenAI does not have are named as in vLLM.

    Every field may be null, which means its default. Unknown fields are accepted.
    """

    model_config = ConfigDict(extra="allow")

    temperature: Number | None = Field(None, ge=0, le=2)
    top_p: Number | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: Number | None = Field(None, ge=0, le=1)
    repetition_penalty: Number | None = Field(None, gt=0, le=10)
    repetition_context_size: int | None = Field(None, ge=1, lt=2**31)
    presence_penalty: Number | None = Field(None, ge=-2, le=2)
    frequency_penalty: Number | None = Field(None, ge=-2, le=2)
    xtc_probability: Number | None = Field(None, ge=0, le=1)
    xtc_threshold: Number | None = Field(None, ge=0, le=0.5)
    logit_bias: dict[str, Annotated[Number, Field(ge=-100, le=100)]] | None = None
    seed: Seed | None = None
    min_tokens: int | None = Field(None, ge=0, lt=2**63)
    ignore_eos: bool | None = None
    bad_words: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MAX_BAD_WORD_LENGTH)]], Field(max_length=MAX_BAD_WORDS)
        ]
        | None
    ) = None
    stop_token_ids: TokenIds | None = None
    allowed_token_ids: Annotated[TokenIds, Field(min_length=1)] | None = None

    def sampling(self) -> Sampling:
        """Return the sampling parameters; InvalidRequestError if a key of logit_bias is not a token id."""
        self._reject_unsupported()
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name in SAMPLING
            if (value := getattr(self, name)) is not None
        }
        try:
            bias = {int(token): value for token, value in (self.logit_bias or {}).items()}
        except ValueError:
            raise InvalidRequestError("logit_bias: keys must be token ids.", param="logit_bias") from None
        return Sampling(**given, logit_bias=bias)

    def _reject_unsupported(self) -> None:
        for name, neutral in UNSUPPORTED.items():
            value = (self.model_extra or {}).get(name)
            if value is not None and value not in neutral:
                raise InvalidRequestError(f"{name} is not supported by this server; remove it.", param=name)

    def ignored(self) -> list[str]:
        """Return the paths of the fields that are set but have no effect with any model."""
        return ignored_fields(self)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationBody(SamplingBody):
    """The fields that all of OpenAI's text APIs share."""

    model: str | None = None
    stream: bool | None = None
    stop: str | list[str] | None = None
    include_stop_str_in_output: bool | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    structured_outputs: StructuredOutputs | None = None
    priority: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=128)] | None = None

    def ignored(self) -> list[str]:
        # An empty stop string would end every output at once; clients send it for "none".
        return sorted([*super().ignored(), *(["stop"] if "" in self._stop_list() else [])])

    def output_format(self, response_format: Grammar | None, param: str) -> Grammar | None:
        """Return `response_format`, which the API's field `param` sets, or the format of structured_outputs."""
        reject_removed_fields(self.model_extra or {})
        if self.structured_outputs is None:
            return response_format
        if response_format is not None:
            raise InvalidRequestError(
                f"{param} and {STRUCTURED} cannot be combined; set only one of them.", param=STRUCTURED
            )
        return self.structured_outputs.output_format()

    def queue_priority(self) -> Priority:
        """Return the priority in the queue: vLLM's `priority`, in which lower values come first, or `service_tier`."""
        if self.priority:
            return Priority.HIGH if self.priority < 0 else Priority.LOW
        return PRIORITIES.get(self.service_tier or "", Priority.NORMAL)

    def stops(self) -> tuple[str, ...]:
        """Return the stop strings, see `stop_strings`."""
        return stop_strings(self._stop_list(), "stop")

    def _stop_list(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


def stop_strings(stops: Sequence[str], param: str) -> tuple[str, ...]:
    """Return the stop strings of a request, without empty ones; InvalidRequestError for too many or too long ones."""
    if len(stops) > MAX_STOPS:
        raise InvalidRequestError(f"{param}: at most {MAX_STOPS} strings, got {len(stops)}.", param=param)
    longest = max(map(len, stops), default=0)
    if longest > MAX_STOP_LENGTH:
        raise InvalidRequestError(
            f"{param}: a string may have at most {MAX_STOP_LENGTH} characters, got {longest}.", param=param
        )
    return tuple(stop for stop in stops if stop)


class ReasoningConfig(BaseModel):
    """The `reasoning` object: OpenAI's effort, and OpenRouter's limit of reasoning tokens."""

    model_config = ConfigDict(extra="allow")

    effort: str | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class ThinkingConfig(BaseModel):
    """The `thinking` object of Anthropic, as LiteLLM and others pass it on."""

    model_config = ConfigDict(extra="allow")

    type: Literal["enabled", "disabled", "adaptive"] | None = None
    budget_tokens: Annotated[int, Field(ge=0, lt=2**63)] | None = None


def _with_booleans(kwargs: dict[str, Any]) -> dict[str, Any]:
    # In a template, the text "false" is true.
    if kwargs.get("enable_thinking") is None:
        return kwargs
    try:
        return {**kwargs, "enable_thinking": _BOOLEAN.validate_python(kwargs["enable_thinking"])}
    except ValidationError:
        raise ValueError(f"enable_thinking must be a boolean, got {kwargs['enable_thinking']!r}") from None


_BOOLEAN = TypeAdapter(bool)
# Variables of the chat template.
TemplateKwargs = Annotated[dict[str, Any], AfterValidator(_with_booleans)]


class ConversationBody(GenerationBody):
    """The fields that OpenAI's APIs for conversations share."""

    parallel_tool_calls: bool | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    thinking_token_budget: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    reasoning: ReasoningConfig | None = None
    thinking: ThinkingConfig | None = None
    documents: list[dict[str, Any]] | None = None

    def template_kwargs(self, effort: str | None) -> dict[str, Any]:
        """Return the variables of the chat template, apart from messages and tools."""
        named = {
            "reasoning_effort": effort if self.reasoning is None or effort else self.reasoning.effort,
            "enable_thinking": self._enable_thinking(),
            "documents": self.documents,
        }
        return {name: value for name, value in named.items() if value is not None} | (self.chat_template_kwargs or {})

    def _enable_thinking(self) -> bool | None:
        if self.enable_thinking is None and self.thinking is not None and self.thinking.type != "adaptive":
            return None if self.thinking.type is None else self.thinking.type == "enabled"
        return self.enable_thinking

    def reasoning_limits(self) -> dict[str, int]:
        """Return the fields that limit the reasoning tokens; -1 means no limit."""
        limits = {
            "thinking_token_budget": self.thinking_token_budget,
            "reasoning.max_tokens": self.reasoning.max_tokens if self.reasoning is not None else None,
            "thinking.budget_tokens": self.thinking.budget_tokens if self.thinking is not None else None,
        }
        return {name: value for name, value in limits.items() if value is not None}

    def max_reasoning_tokens(self) -> int | None:
        """Return the limit of reasoning tokens; InvalidRequestError if several fields set it."""
        limits = self.reasoning_limits()
        if len(limits) > 1:
            raise InvalidRequestError(
                f"{' and '.join(limits)} cannot be combined; set only one of them.", param=next(iter(limits))
            )
        return next(iter(limits.values()), None)


def _unenforced_limits(limits: Mapping[str, int], model: ModelStatus) -> list[str]:
    """Return the fields in `limits` as ignored if the model cannot limit its reasoning."""
    info = model.capabilities
    if info is None or (info.reasoning and "max_reasoning_tokens" in info.supported_parameters):
        return []
    return [field for field, tokens in limits.items() if tokens >= 0]


class TemplateBody(Protocol):
    """The body of a request whose prompt is rendered with the chat template."""

    chat_template_kwargs: dict[str, Any] | None

    def ignored(self) -> list[str]: ...


def ignored_by_model(
    body: TemplateBody,
    request: ChatRequest,
    model: ModelStatus,
    variables: Mapping[str, Sequence[str]],
    reasoning_limits: Mapping[str, int] = MappingProxyType({}),
    media_types: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Return the paths of all fields of a body that have no effect with this model.

    `variables` are the variables of the chat template with the fields that set each, apart from `chat_template_kwargs`.
    A variable has no effect if the template does not contain its name. `reasoning_limits` are the limits of reasoning
    tokens by field. Tools are listed if neither the template nor a parser has a notation for them. Media in the history
    are listed if the model does not accept them; `media_types` are the API's own types of content parts, by chat's.
    """
    ignored = [path for path in body.ignored() if not _is_read(path, model)]
    for name in request.template_kwargs:
        if template_contains(model, name) is False:
            fields = [field for field in variables.get(name, ()) if _is_set(body, field)]
            own = name in (body.chat_template_kwargs or {})
            ignored += [f"chat_template_kwargs.{name}"] if own else fields
    shown = model.writes_calls or template_contains(model, "tools") is not False
    if request.tools and request.tool_choice == "auto" and not shown:
        ignored.append("tools")
    if model.enforces_tool_schemas is False and any(map(is_strict, request.tools)):
        ignored.append("tools.strict")
    accepted = model.capabilities.input_modalities if model.capabilities is not None else None
    ignored += [f"messages.content.{media_types.get(kind, kind)}" for kind in omit_media(request.messages, accepted)[1]]
    return sorted({*ignored, *_unenforced_limits(reasoning_limits, model)})


def _is_set(body: Any, path: str) -> bool:
    for name in path.split("."):
        body = getattr(body, name, None)
    return body is not None


def _is_read(path: str, model: ModelStatus) -> bool:
    """Whether a path is an unknown field of messages, which are passed to the template, and the template reads it."""
    parent, _, name = path.rpartition(".")
    return parent == "messages" and template_contains(model, name) is True


def template_contains(model: ModelStatus, name: str) -> bool | None:
    """Return whether the source of a model's chat template contains a name; None if the source is unknown."""
    template = model.capabilities.chat_template if model.capabilities is not None else None
    return None if template is None else re.search(rf"\b{re.escape(name)}\b", template) is not None
