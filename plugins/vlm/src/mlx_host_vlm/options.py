"""What can be set for a model that sees or hears; each field is a flag, a key of a file and a variable."""

from __future__ import annotations

from mlx_host_lm.options import SERVES, LmOptions
from pydantic import Field

__all__ = ["SERVES", "VlmOptions"]


class VlmOptions(LmOptions):
    """Options of the backend `vlm`: those of `lm`, and those for images and audio."""

    max_image_pixels: int = Field(
        default=2048 * 2048,
        ge=1,
        description="Maximum number of pixels of an image for the model; a larger one is scaled down to this.",
    )
    disable_auto_resize: bool = Field(
        default=False,
        description="Reject an image above --max-image-pixels with a 413 instead of scaling it down.",
    )
    allow_remote_media: bool = Field(
        default=False,
        description="Fetch images from http and https URLs in requests; without it, only data: URLs are accepted. "
        "Addresses that are not public are rejected.",
    )
    trusted_media_hosts: list[str] = Field(
        default=[],
        description="A host, as written in URLs, that images may be fetched from although its address is not public; "
        "can be repeated.",
    )
