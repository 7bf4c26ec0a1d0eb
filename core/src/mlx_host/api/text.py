"""What the APIs of text models share: sampling fields, tool choice, structured output. For third-party APIs, too."""

from mlx_host.api.common_fields import (
    ConversationBody,
    GenerationBody,
    SamplingBody,
    Seed,
    Tokens,
    unenforced_strict,
)
from mlx_host.api.response_format import StructuredOutputs
from mlx_host.api.tool_choice import is_strict

__all__ = [
    "ConversationBody",
    "GenerationBody",
    "SamplingBody",
    "Seed",
    "StructuredOutputs",
    "Tokens",
    "is_strict",
    "unenforced_strict",
]
