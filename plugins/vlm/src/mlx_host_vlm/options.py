"""Options of the backend `vlm`; each field is a flag, a configuration key and an environment variable."""

from __future__ import annotations

from mlx_host_text.options import GenerationOptions
from pydantic import Field


class VlmOptions(GenerationOptions):
    """Options of the backend `vlm`: those of every text model, and those for images and audio."""

    max_image_pixels: int = Field(
        default=2048 * 2048,
        ge=1,
        description="Maximum number of pixels of an image. Larger images are scaled down to it.",
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
