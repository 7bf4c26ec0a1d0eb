"""What can be set for an embedding model; each field is a flag, a key of the configuration file and a variable."""

from __future__ import annotations

from typing import Literal

from mlx_host.backend import Options
from pydantic import Field

Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


class EmbeddingsOptions(Options):
    """Options of the backend `embeddings`."""

    context_length: int | None = Field(
        None, ge=1, description="Most tokens of one input; by default what the model's files say it was trained for."
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Most tokens, padding included, in one forward pass; less lets others in sooner. By default 8192 "
        "on a GPU and 512 on a CPU, where larger passes leave its caches and are slower.",
    )
    query_prefix: str | None = Field(
        None,
        description="Text put before every text of a request with input_type query; by default what the model's files "
        "say.",
    )
    document_prefix: str | None = Field(
        None,
        description="The same for input_type document.",
    )
    default_input_type: Literal["query", "document"] | None = Field(
        None,
        description="The input_type of requests that have none; by default they get no prefix but the one that "
        "the model's files name as the default.",
    )
    pooling: Pooling | None = Field(
        None, description="How token vectors become one; by default what the model's 1_Pooling/config.json says."
    )
    matryoshka: bool = Field(
        False,
        description="Let requests shorten the vectors with dimensions, although the model's files do not say that it "
        "is trained for it.",
    )
