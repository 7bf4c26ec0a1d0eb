"""All calls into mlx-vlm; tests/plugins/vlm/test_mlx_vlm_signatures.py pins what is used."""

from mlx_host_vlm.mlx_vlm_api.arguments import MediaInputs
from mlx_host_vlm.mlx_vlm_api.batch import DecodeBatch, GenerationRows, Prefill, materialize
from mlx_host_vlm.mlx_vlm_api.model import INPUT_ERRORS, LoadedModel, load

__all__ = [
    "INPUT_ERRORS",
    "DecodeBatch",
    "GenerationRows",
    "LoadedModel",
    "MediaInputs",
    "Prefill",
    "load",
    "materialize",
]
