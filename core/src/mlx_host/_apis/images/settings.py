"""The settings of the Images API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from mlx_host.api import ApiSettings


class ImageSettings(ApiSettings):
    """How many generated images and jobs are kept, and for how long."""

    legacy_names: ClassVar[Mapping[str, str]] = {
        "image_store_mb": "store_mb",
        "image_store_ttl": "store_ttl",
        "image_jobs": "jobs",
    }

    store_mb: float = Field(
        256,
        ge=0,
        description="Memory for generated images that have a URL or belong to a job, in megabytes.",
    )
    store_ttl: float = Field(
        3600, gt=0, description="How long generated images and finished jobs can be fetched, in seconds."
    )
    jobs: int = Field(
        100,
        ge=0,
        description="Maximum number of image jobs. A further job replaces the oldest finished one, or is rejected "
        "with a 429 if none has finished.",
    )
