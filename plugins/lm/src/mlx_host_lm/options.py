"""Options of the backend `lm`."""

from __future__ import annotations

from mlx_host_text.options import GenerationOptions


class LmOptions(GenerationOptions):
    """Options of the backend `lm`."""
