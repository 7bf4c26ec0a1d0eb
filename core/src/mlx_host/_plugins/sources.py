"""Core's own answer to where a model comes from: a local folder or file, or the Hugging Face hub."""

from __future__ import annotations

import os.path
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlx_host.backend import LoadProgress, ModelSource
from mlx_host.errors import LoadError
from mlx_host.hookspecs import hookimpl

if TYPE_CHECKING:
    from tqdm.auto import tqdm

# What a model is made of, by the kinds of file that MLX's libraries read and fetch themselves: the weights of other
# frameworks that many repositories hold beside would multiply the download.
MODEL_FILES = ("*.jinja", "*.json", "*.jsonl", "*.model", "*.npz", "*.py", "*.safetensors", "*.tiktoken", "*.txt")
# The same weights once more, as their makers' own programs read them.
DUPLICATES = ("consolidated*.safetensors", "original/*")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@hookimpl(trylast=True)
def resolve_source(ref: str) -> ModelSource | None:
    """Take what exists on disk, else what looks like a hub id."""
    path = os.path.expanduser(ref)
    if os.path.exists(path):
        return ModelSource(ref, f"local: {path}", lambda progress: Path(path).resolve())
    if _HUB_ID.fullmatch(ref):
        return ModelSource(ref, f"Hugging Face hub: {ref}", lambda progress: _download(ref, progress))
    return None


def _download(ref: str, progress: LoadProgress) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = snapshot_download(
            ref,
            allow_patterns=list(MODEL_FILES),
            ignore_patterns=list(DUPLICATES),
            tqdm_class=_reporting_bar(progress),
        )
    except GatedRepoError as error:
        raise LoadError(f"{ref!r} is gated: accept its terms on its page, then set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise LoadError(
            f"{ref!r} is not on the hub, or is private: check the spelling, or set HF_TOKEN; "
            "a local folder may be given as well."
        ) from error
    except LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub does not answer ({error.__cause__})"
        raise LoadError(
            f"{ref!r} is not (or not completely) in the local hub cache, and {why}; "
            "check the network, or give a local folder."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise LoadError(f"{ref!r} cannot be downloaded: {_first_line(error)}") from error
    return Path(folder)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _reporting_bar(progress: LoadProgress) -> type[tqdm[Any]]:
    """Make the bar class that the hub's client fills in; it reports instead of drawing.

    The client makes bars for bytes written, bytes received and files done, and updates them from several threads.
    They say the same at different times, so the furthest bar that counts bytes is reported; clients before 1.0
    count files only.
    """
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs only
        # tqdm would start a thread to redraw, and make a lock across processes, which is a process of its own.
        monitor_interval: ClassVar[int] = 0
        _furthest: ClassVar[dict[str, tuple[int, int]]] = {}
        _reporting: ClassVar[threading.Lock] = threading.Lock()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "gui": True})

        def update(self, n: float | None = 1) -> bool | None:
            with self._reporting:
                self.n += n or 0
                self._report()
            return None

        def _report(self) -> None:
            unit = "bytes" if self.unit == "B" else "files"
            if not self.total or (unit == "files" and "bytes" in self._furthest):
                return
            done, total = self._furthest.get(unit, (0, 0))
            furthest = max(done, int(self.n)), max(total, int(self.total), int(self.n))
            if furthest != (done, total):
                self._furthest[unit] = furthest
                progress("download", *furthest, unit)

        def display(self, *args: Any, **kwargs: Any) -> None:
            pass

        def refresh(self, *args: Any, **kwargs: Any) -> None:
            pass

        def close(self) -> None:
            pass

    Bar.set_lock(threading.RLock())
    return Bar
