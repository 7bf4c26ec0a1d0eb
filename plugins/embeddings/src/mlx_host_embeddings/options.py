"""Options of the backend `embeddings`; each field is a flag, a configuration key and an environment variable."""

from __future__ import annotations

from typing import Literal

from mlx_host.backend import Options
from pydantic import Field

Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


class EmbeddingsOptions(Options):
    """Options of the backend `embeddings`."""

    context_length: int | None = Field(
        None,
        ge=1,
        description="Maximum number of tokens of an input. Default: the length in the model's files.",
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Maximum number of tokens in one forward pass, including padding. Smaller: other requests wait "
        "less. Default: 8192 on a GPU; 512 on a CPU, where larger passes do not fit its caches.",
    )
    query_prefix: str | None = Field(
        None,
        description="Text prepended to every text of a request with input_type query. Default: the prompt in the "
        "model's files.",
    )
    document_prefix: str | None = Field(
        None,
        description="Text prepended to every text of a request with input_type document. Default: as above.",
    )
    default_input_type: Literal["query", "document"] | None = Field(
        None,
        description="Default input_type of requests. Without it, the model's default prompt is prepended, if its files "
        "define one.",
    )
    pooling: Pooling | None = Field(
        None,
        description="Pooling method for the token vectors. Default: the mode in the model's 1_Pooling/config.json.",
    )
    matryoshka: bool = Field(
        False,
        description="Accept dimensions in requests even if the model's files do not declare Matryoshka embeddings.",
    )
