"""The served models: loading, admission, replies, and the parsers that process their output."""

from mlx_host._host.host import Host
from mlx_host._host.served_model import Limits, ServedModel

__all__ = ["Host", "Limits", "ServedModel"]
