"""For APIs of text models: sampling parameters, tool choice, structured output and usage."""

from mlx_host.api.chat_messages import Messages, Tools, request_messages, request_tools
from mlx_host.api.common_fields import (
    ConversationBody,
    GenerationBody,
    SamplingBody,
    Seed,
    StreamOptions,
    TemplateKwargs,
    Tokens,
    ignored_by_model,
    stop_strings,
)
from mlx_host.api.openai_format import MIN_LOGPROB, finite, logprobs_json, usage_json, usage_so_far
from mlx_host.api.response_format import StructuredOutputs, schema_output_format
from mlx_host.api.text_inputs import read_inputs
from mlx_host.api.tool_choice import ToolFields, choose, is_strict, tool_fields

__all__ = [
    "MIN_LOGPROB",
    "ConversationBody",
    "GenerationBody",
    "Messages",
    "SamplingBody",
    "Seed",
    "StreamOptions",
    "StructuredOutputs",
    "TemplateKwargs",
    "Tokens",
    "ToolFields",
    "Tools",
    "choose",
    "finite",
    "ignored_by_model",
    "is_strict",
    "logprobs_json",
    "read_inputs",
    "request_messages",
    "request_tools",
    "schema_output_format",
    "stop_strings",
    "tool_fields",
    "usage_json",
    "usage_so_far",
]
