"""The backend fulfils the Model contract, tested with a random FLUX.2 klein."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_host.requests import ImageGenerationRequest, Request
from mlx_host.testing import ModelContract
from mlx_host_flux.plugin import FLUX

from tests.support.tiny_flux import write_tiny_flux


def request(**fields: Any) -> ImageGenerationRequest:
    # Larger images take minutes without a fast BLAS, which this process may lack.
    defaults = {"id": "contract", "model": "contract", "prompt": "a cat", "seed": 1, "size": (16, 16), "steps": 1}
    return ImageGenerationRequest(**{**defaults, **fields})


class TestFlux(ModelContract):
    backend = FLUX
    requests = (request(), request(seed=2))
    options = {"config_name": "flux2-klein-4b", "quantize": 16}  # noqa: RUF012  declared by ModelContract

    @classmethod
    def path(cls, empty: Path) -> Path:
        return write_tiny_flux(empty / "flux")

    def unsuitable(self) -> Sequence[Request]:
        return [
            request(prompt="x" * 1001),
            request(size=(17, 16)),
        ]
