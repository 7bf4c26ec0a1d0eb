"""What can be set for a text model; each field is a flag, a key of the configuration file and a variable."""

from __future__ import annotations

from pathlib import Path

from mlx_host.backend import Options
from mlx_host.requests import ChatRequest, CompletionRequest, DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from pydantic import Field, field_validator

GIB = 1 << 30
SERVES = (ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest, EmbeddingRequest)


class LmOptions(Options):
    """Options of the backend `lm`."""

    context_length: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens of prompt and answer together; the model's own limit if that is lower.",
    )
    chat_template_file: Path | None = Field(
        default=None, description="A Jinja file to use in place of the model's own chat template."
    )
    trust_remote_code: bool = Field(default=False, description="Run Python code that comes with the model.")
    adapter_path: Path | None = Field(
        default=None, description="A folder with LoRA adapters to load on top of the model."
    )
    prefill_step_size: int = Field(
        default=512,
        ge=1,
        description="Prompt tokens read between two decoding steps; less stutter if smaller, faster if larger.",
    )
    prompt_cache_bytes: int = Field(
        default=2 * GIB,
        ge=0,
        description="Memory for the keys and values of running and past prompts; 0 keeps no past ones.",
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Longest answer in tokens where a request sets no limit."
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Default temperature; 0 is greedy.")
    top_p: float | None = Field(
        default=None, ge=0, le=1, description="Default nucleus: the probability mass to sample from."
    )
    top_k: int | None = Field(
        default=None, ge=0, description="Default number of most likely tokens to sample from; 0 is all."
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="Default least probability, relative to the most likely token's."
    )
    repetition_penalty: float | None = Field(
        default=None, gt=0, description="Default factor that makes recent tokens less likely; 1 is none."
    )
    repetition_context_size: int | None = Field(
        default=None, ge=1, description="How many tokens back the repetition penalty looks by default."
    )
    presence_penalty: float | None = Field(
        default=None,
        ge=-2,
        le=2,
        description="Default amount taken from the logit of every token already in the answer.",
    )
    frequency_penalty: float | None = Field(
        default=None,
        ge=-2,
        le=2,
        description="Default amount taken from a token's logit for each time it is in the answer.",
    )
    xtc_probability: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Default chance, at each token, that the likeliest choices are excluded (XTC).",
    )
    xtc_threshold: float | None = Field(
        default=None, ge=0, le=0.5, description="Default probability above which XTC may exclude a token."
    )

    @field_validator("chat_template_file")
    @classmethod
    def _is_a_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {str(path)!r}; give the path of a Jinja chat template")
        return path

    @field_validator("adapter_path")
    @classmethod
    def _is_a_folder(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_dir():
            raise ValueError(
                f"there is no folder {str(path)!r}; give the folder that holds adapter_config.json and its weights"
            )
        return path
