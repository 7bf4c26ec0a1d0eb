"""Options of backends that generate text; each field is a flag, a configuration key and an environment variable."""

from __future__ import annotations

from pathlib import Path

from mlx_host.backend import Options
from mlx_host.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    ExplainRequest,
    TokenizeRequest,
    TokenizerInfoRequest,
)
from pydantic import Field, field_validator

GIB = 1 << 30
SUPPORTED_REQUESTS = (
    ChatRequest,
    CompletionRequest,
    TokenizeRequest,
    DetokenizeRequest,
    TokenizerInfoRequest,
    ExplainRequest,
    EmbeddingRequest,
)
"""The request types of a TextModel; EmbeddingRequest only if it has an embedder."""


class GenerationOptions(Options):
    """Options of every text model; a backend derives its own from them to add fields."""

    context_length: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of tokens in prompt and output together, up to the model's own limit.",
    )
    chat_template_file: Path | None = Field(
        default=None, description="A Jinja file that replaces the model's chat template."
    )
    trust_remote_code: bool = Field(default=False, description="Run Python code that comes with the model.")
    adapter_path: Path | None = Field(
        default=None, description="A folder with LoRA adapters to load on top of the model."
    )
    prefill_step_size: int = Field(
        default=512,
        ge=1,
        description="Prefill chunk size in tokens. Smaller: steadier streaming. Larger: faster prefill.",
    )
    prompt_cache_bytes: int = Field(
        default=2 * GIB,
        ge=0,
        description="Memory for the KV cache of running requests and the prefix cache, in bytes; 0 disables the prefix "
        "cache.",
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Maximum output tokens of requests that set no limit."
    )
    reasoning_budget: int | None = Field(
        default=None,
        ge=-1,
        description="Maximum reasoning tokens of requests that set no limit. -1: no limit.",
    )
    reasoning_budget_message: str | None = Field(
        default=None, description="Text that is inserted before the reasoning is closed because of its budget."
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Default temperature; 0 is greedy.")
    top_p: float | None = Field(
        default=None, ge=0, le=1, description="Default probability mass to sample from (nucleus sampling)."
    )
    top_k: int | None = Field(
        default=None, ge=0, description="Default number of most likely tokens to sample from; 0 disables the limit."
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="Default minimum probability, relative to the most likely token."
    )
    repetition_penalty: float | None = Field(
        default=None,
        gt=0,
        description="Default factor that makes tokens of the prompt and the output less likely; 1 disables it.",
    )
    repetition_context_size: int | None = Field(
        default=None,
        ge=1,
        description="Default number of recent tokens that the repetition penalty covers. Without it: all tokens.",
    )
    presence_penalty: float | None = Field(
        default=None,
        ge=-2,
        le=2,
        description="Default amount subtracted from the logit of every token already in the output.",
    )
    frequency_penalty: float | None = Field(
        default=None,
        ge=-2,
        le=2,
        description="Default amount subtracted from a token's logit for each time it is in the output.",
    )
    xtc_probability: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Default probability, per token, that the most likely tokens are excluded (XTC).",
    )
    xtc_threshold: float | None = Field(
        default=None, ge=0, le=0.5, description="Default probability above which XTC may exclude a token."
    )

    @field_validator("chat_template_file")
    @classmethod
    def _is_a_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"no such file: {str(path)!r}; give the path of a Jinja chat template")
        return path

    @field_validator("adapter_path")
    @classmethod
    def _is_a_folder(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_dir():
            raise ValueError(f"no such folder: {str(path)!r}; give the folder with adapter_config.json and its weights")
        return path
