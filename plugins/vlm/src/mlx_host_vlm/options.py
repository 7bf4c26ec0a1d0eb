"""What can be set for a model that sees or hears; each field is a flag, a key of a file and a variable."""

from __future__ import annotations

from mlx_host_lm.options import SERVES, LmOptions
from pydantic import Field

__all__ = ["SERVES", "VlmOptions"]


class VlmOptions(LmOptions):
    """Options of the backend `vlm`: those of `lm`, and what pictures and sounds need."""

    max_image_pixels: int = Field(
        default=2048 * 2048,
        ge=1,
        description="Most pixels of a picture that the model is given; a larger one is scaled down to this.",
    )
    disable_auto_resize: bool = Field(
        default=False,
        description="Refuse a picture above --max-image-pixels with a 400 in place of scaling it down.",
    )
    allow_remote_media: bool = Field(
        default=False,
        description="Fetch pictures from http and https URLs in requests; without, only data: URLs are taken. "
        "Addresses that are not public are refused.",
    )
    trusted_media_hosts: list[str] = Field(
        default=[],
        description="A host, as it is written in URLs, that pictures may be fetched from although its address is not "
        "public; can be given more than once.",
    )
