"""Pictures and sounds on their way from a request to the model; nothing here knows a model."""

from mlx_host_vlm.media.aside import Aside
from mlx_host_vlm.media.loader import Loader, Medium, Sound
from mlx_host_vlm.media.parts import Kind, Part, find_parts
from mlx_host_vlm.media.remote import Fetcher, Limits
from mlx_host_vlm.media.unusable import Unusable

__all__ = ["Aside", "Fetcher", "Kind", "Limits", "Loader", "Medium", "Part", "Sound", "Unusable", "find_parts"]
