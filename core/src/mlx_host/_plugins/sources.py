"""Core's own model sources: local folders and files, and the Hugging Face hub."""

from __future__ import annotations

import errno
import os.path
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlx_host.backend import LoadProgress, ModelSource
from mlx_host.errors import LoadError, describe_error
from mlx_host.hookspecs import hookimpl

if TYPE_CHECKING:
    from tqdm.auto import tqdm

# The files to download: the same types that MLX's libraries download. Many repositories also contain the weights for
# other frameworks, which would multiply the size of the download.
MODEL_FILES = ("*.jinja", "*.json", "*.jsonl", "*.model", "*.npz", "*.py", "*.safetensors", "*.tiktoken", "*.txt")
# Copies of the weights in the format of the model's original implementation.
DUPLICATES = ("consolidated*.safetensors", "original/*")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@hookimpl(trylast=True)
def resolve_source(ref: str) -> ModelSource | None:
    """Resolve an existing local path, or else anything that looks like a hub id."""
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
        raise LoadError(f"{ref!r} is a gated repository. Accept its terms on its page, then set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise LoadError(
            f"{ref!r} does not exist on the hub or is private. Check the spelling, set HF_TOKEN, or use a local folder."
        ) from error
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            reason, remedy = "HF_HUB_OFFLINE is set", "Unset it to download the model"
        else:
            reason = f"the hub is unreachable ({describe_error(error.__cause__ or error)})"
            remedy = "Check the network"
        raise LoadError(
            f"{ref!r} is not completely in the local hub cache, and {reason}. {remedy}, or use a local folder."
        ) from error
    except HFValidationError as error:
        raise LoadError(f"{ref!r} is not a valid Hugging Face id: {describe_error(error)}.") from error
    except Exception as error:  # the client's HTTP library, and thus the class of its errors, differs by version
        no_space = isinstance(error, OSError) and error.errno == errno.ENOSPC
        remedy = "Free disk space, or set HF_HOME to another disk." if no_space else "Check the network and try again."
        raise LoadError(f"Downloading {ref!r} failed: {describe_error(error)}. {remedy}") from error
    return Path(folder)


def _reporting_bar(progress: LoadProgress) -> type[tqdm[Any]]:
    """Return a tqdm class for the hub's client that reports progress instead of drawing a bar.

    The client creates bars for bytes written, bytes received and files completed, and updates them from several
    threads. The bar for bytes that is furthest ahead is reported; clients before 1.0 count files only.
    """
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs only
        # Otherwise tqdm starts a monitor thread.
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

    # The default lock of tqdm is a multiprocessing lock, which starts a process.
    Bar.set_lock(threading.RLock())
    return Bar
