"""The form of the audio endpoints.

Source: the OpenAI SDK's `types/audio/transcription_create_params.py` and `translation_create_params.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlx_host.api.ignored_fields import ignored_fields
from mlx_host.errors import InvalidRequestError


class AudioForm(BaseModel):
    """The fields of the form, without the file; an empty field means its default."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    language: str | None = Field(None, max_length=40)
    prompt: str | None = None
    temperature: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    timestamp_granularities: list[Literal["segment", "word"]] = Field(default=[])
    stream: bool = False
    chunking_strategy: Literal["auto"] | None = None

    @property
    def words(self) -> bool:
        """Whether the response has word timestamps."""
        return "word" in self.timestamp_granularities

    @property
    def segments(self) -> bool:
        """Whether the response has segments."""
        return "segment" in self.timestamp_granularities or not self.words

    def ignored(self) -> list[str]:
        """Return the names of fields that have no effect."""
        chunking = ["chunking_strategy"] if self.chunking_strategy else []
        return sorted([*chunking, *ignored_fields(self)])

    def check(self) -> None:
        """Raise InvalidRequestError for fields that cannot be combined."""
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise InvalidRequestError(
                f"timestamp_granularities requires response_format 'verbose_json', got {self.response_format!r}.",
                param="timestamp_granularities",
            )
        if self.stream and self.response_format not in ("json", "text"):
            raise InvalidRequestError(
                f"stream cannot be combined with response_format {self.response_format!r}; use 'json' or 'text'.",
                param="stream",
            )


def form_schema() -> dict[str, Any]:
    """Return the JSON schema of the form for the OpenAPI document, which FastAPI cannot derive."""
    form = AudioForm.model_json_schema()
    form["properties"]["file"] = {"type": "string", "format": "binary"}
    return {**form, "required": ["file"]}
