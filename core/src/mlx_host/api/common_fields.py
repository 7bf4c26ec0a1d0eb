"""Request fields that the text APIs share: sampling, stop strings, priority, structured output."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlx_host.api.response_format import STRUCTURED, StructuredOutputs, refuse_former
from mlx_host.api.service import ModelStatus
from mlx_host.api.tool_choice import is_strict
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Grammar
from mlx_host.requests import ChatRequest, Priority, Sampling

PRIORITIES = {"flex": Priority.LOW, "priority": Priority.HIGH, "fast": Priority.HIGH, "ultrafast": Priority.HIGH}
SAMPLING = tuple(name for name in Sampling.__dataclass_fields__ if name != "logit_bias")
MAX_STOPS = 16

Number = Annotated[float, Field(allow_inf_nan=False)]
# What an id may be written as in JSON: a whole number that fits what samplers and queues take.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Tokens = Annotated[int, Field(ge=1, lt=2**63)]


class SamplingBody(BaseModel):
    """A body's fields that say how tokens are chosen; names that OpenAI lacks are vLLM's.

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

    def sampling(self) -> Sampling:
        """How tokens are chosen; InvalidRequestError if a key of logit_bias is no token id."""
        given = {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}
        try:
            bias = {int(token): value for token, value in (self.logit_bias or {}).items()}
        except ValueError:
            raise InvalidRequestError("logit_bias: the keys must be token ids.", param="logit_bias") from None
        return Sampling(**given, logit_bias=bias)

    def given_extra(self) -> list[str]:
        """Name the unknown fields that were given and are not null."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value is not None)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class GenerationBody(SamplingBody):
    """A body's fields that mean the same in OpenAI's dialects."""

    model: str | None = None
    stream: bool | None = None
    stop: str | list[str] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    structured_outputs: StructuredOutputs | None = None

    def given_extra(self) -> list[str]:
        inside = self.structured_outputs.ignored() if self.structured_outputs is not None else []
        return sorted([*super().given_extra(), *inside])

    def form(self, wanted: Grammar | None, param: str) -> Grammar | None:
        """What the content is to be: what is `wanted` by the dialect's own field `param`, or structured_outputs."""
        refuse_former(self.model_extra or {})
        if self.structured_outputs is None:
            return wanted
        if wanted is not None:
            raise InvalidRequestError(f"Give {param} or {STRUCTURED}, and not both.", param=STRUCTURED)
        return self.structured_outputs.form()

    def priority(self) -> Priority:
        """Where the request stands in the queue."""
        return PRIORITIES.get(self.service_tier or "", Priority.NORMAL)

    def stops(self) -> tuple[str, ...]:
        """The strings that end an answer."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > MAX_STOPS:
            raise InvalidRequestError(f"stop: at most {MAX_STOPS} strings, got {len(stops)}.", param="stop")
        return tuple(stop for stop in stops if stop)


class ConversationBody(GenerationBody):
    """The fields that the dialects of conversations share."""

    parallel_tool_calls: bool | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def template_kwargs(self, effort: str | None) -> dict[str, Any]:
        """What the chat template gets beside the messages."""
        named = {"reasoning_effort": effort, "enable_thinking": self.enable_thinking}
        return {name: value for name, value in named.items() if value is not None} | (self.chat_template_kwargs or {})


def unenforced_strict(request: ChatRequest, model: ModelStatus) -> list[str]:
    """Return `tools.strict` for the ignored header if it was given and the model cannot enforce it."""
    ignored = model.enforces_tool_schemas is False and any(map(is_strict, request.tools))
    return ["tools.strict"] if ignored else []
