"""The served models: loading, queueing, replies, and processing of their output."""

from mlx_host._host.catalog import Catalog, ModelLimits, ModelSpec
from mlx_host._host.host import Host
from mlx_host._host.model_pool import ModelPool
from mlx_host._host.served_model import ServedModel

__all__ = ["Catalog", "Host", "ModelLimits", "ModelPool", "ModelSpec", "ServedModel"]
