"""Images and audio clips of a request, from content parts to model input; nothing here depends on a model."""

from mlx_host_vlm.media.content_parts import Kind, Part, find_parts
from mlx_host_vlm.media.loader import AudioSamples, MediaLoader, Medium

__all__ = ["AudioSamples", "Kind", "MediaLoader", "Medium", "Part", "find_parts"]
