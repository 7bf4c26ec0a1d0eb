"""Core's own answer to where a model comes from: a local folder or file, or the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_host.backend import Progress, Source
from mlx_host.errors import LoadError
from mlx_host.hookspecs import hookimpl

if TYPE_CHECKING:
    from tqdm.auto import tqdm

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@hookimpl(trylast=True)
def resolve_source(ref: str) -> Source | None:
    """Take what exists on disk, else what looks like a hub id."""
    path = Path(ref).expanduser()
    if path.exists():
        return Source(ref, f"local: {path}", lambda progress: path.resolve())
    if _HUB_ID.fullmatch(ref):
        return Source(ref, f"Hugging Face hub: {ref}", lambda progress: _download(ref, progress))
    return None


def _download(ref: str, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(ref, tqdm_class=_reporting_bar(progress)))
    except LocalEntryNotFoundError as error:
        raise LoadError(
            f"{ref!r} is not in the local hub cache and the hub cannot be reached; "
            "check the network, or give a local folder."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LoadError(f"{ref!r} cannot be downloaded: {first_line}") from error


def _reporting_bar(progress: Progress) -> type[tqdm[Any]]:
    """Make the bar class that the hub's client fills in; it reports instead of drawing."""
    from tqdm.auto import tqdm

    class Bar(tqdm[Any]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "gui": True})

        def display(self, *args: Any, **kwargs: Any) -> None:
            pass

        def refresh(self, *args: Any, **kwargs: Any) -> None:
            pass

        def close(self) -> None:
            pass

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if self.unit == "B" and self.total:
                progress("download", int(self.n), int(self.total), "bytes")
            return None

    return Bar
