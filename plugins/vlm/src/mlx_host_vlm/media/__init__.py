"""Pictures and sounds on their way from a request to the model; nothing here knows a model."""

from mlx_host_vlm.media.loader import Loader, Medium, Sound
from mlx_host_vlm.media.parts import Kind, Part, find_parts
from mlx_host_vlm.media.remote import Fetcher, Limits

__all__ = ["Fetcher", "Kind", "Limits", "Loader", "Medium", "Part", "Sound", "find_parts"]
