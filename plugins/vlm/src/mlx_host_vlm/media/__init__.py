"""Images and audio clips of a request, from content parts to model input; nothing here depends on a model."""

from mlx_host_vlm.media.loader import AudioSamples, Loader, Medium
from mlx_host_vlm.media.parts import Kind, Part, find_parts

__all__ = ["AudioSamples", "Kind", "Loader", "Medium", "Part", "find_parts"]
