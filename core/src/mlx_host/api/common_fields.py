"""Request fields that the text APIs share: sampling, stop strings, priority, structured output."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlx_host.api.response_format import STRUCTURED, StructuredOutputs, reject_removed_fields
from mlx_host.api.service import ModelStatus
from mlx_host.api.tool_choice import is_strict
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import Grammar
from mlx_host.requests import ChatRequest, Priority, Sampling

PRIORITIES = {"flex": Priority.LOW, "priority": Priority.HIGH, "fast": Priority.HIGH, "ultrafast": Priority.HIGH}
SAMPLING = tuple(name for name in Sampling.__dataclass_fields__ if name != "logit_bias")
MAX_STOPS = 16

Number = Annotated[float, Field(allow_inf_nan=False)]
# The ranges that samplers and schedulers can represent: a signed or unsigned 64-bit integer.
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Tokens = Annotated[int, Field(ge=1, lt=2**63)]


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

    def sampling(self) -> Sampling:
        """Return the sampling parameters; InvalidRequestError if a key of logit_bias is not a token id."""
        given = {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}
        try:
            bias = {int(token): value for token, value in (self.logit_bias or {}).items()}
        except ValueError:
            raise InvalidRequestError("logit_bias: keys must be token ids.", param="logit_bias") from None
        return Sampling(**given, logit_bias=bias)

    def given_extra(self) -> list[str]:
        """Return the names of fields that are set and have no effect: by default the unknown ones that are not null."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value is not None)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class GenerationBody(SamplingBody):
    """The fields that all of OpenAI's text APIs share."""

    model: str | None = None
    stream: bool | None = None
    stop: str | list[str] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    structured_outputs: StructuredOutputs | None = None

    def given_extra(self) -> list[str]:
        nested = self.structured_outputs.ignored() if self.structured_outputs is not None else []
        # An empty stop string would end every output at once; clients send it for "none".
        empty = ["stop"] if "" in self._stop_list() else []
        return sorted([*super().given_extra(), *nested, *empty])

    def output_format(self, response_format: Grammar | None, param: str) -> Grammar | None:
        """Return the output format: `response_format`, from the API's own field `param`, or structured_outputs."""
        reject_removed_fields(self.model_extra or {})
        if self.structured_outputs is None:
            return response_format
        if response_format is not None:
            raise InvalidRequestError(
                f"{param} and {STRUCTURED} cannot be combined; set only one of them.", param=STRUCTURED
            )
        return self.structured_outputs.output_format()

    def priority(self) -> Priority:
        """Return the priority in the queue."""
        return PRIORITIES.get(self.service_tier or "", Priority.NORMAL)

    def stops(self) -> tuple[str, ...]:
        """Return the stop strings that are not empty; InvalidRequestError if there are more than MAX_STOPS."""
        stops = self._stop_list()
        if len(stops) > MAX_STOPS:
            raise InvalidRequestError(f"stop: at most {MAX_STOPS} strings, got {len(stops)}.", param="stop")
        return tuple(stop for stop in stops if stop)

    def _stop_list(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ConversationBody(GenerationBody):
    """The fields that the APIs for conversations share."""

    parallel_tool_calls: bool | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def template_kwargs(self, effort: str | None) -> dict[str, Any]:
        """Return the variables of the chat template, apart from messages and tools."""
        named = {"reasoning_effort": effort, "enable_thinking": self.enable_thinking}
        return {name: value for name, value in named.items() if value is not None} | (self.chat_template_kwargs or {})


def unenforced_strict(request: ChatRequest, model: ModelStatus) -> list[str]:
    """Return `tools.strict`, for the header of ignored fields, if it is set and the model cannot enforce it."""
    ignored = model.enforces_tool_schemas is False and any(map(is_strict, request.tools))
    return ["tools.strict"] if ignored else []
