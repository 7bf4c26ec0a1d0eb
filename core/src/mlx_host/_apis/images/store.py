"""Pictures that are kept in memory for a while, for their URLs and for jobs: so many bytes, the oldest go first."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from mlx_host.errors import InvalidRequest


@dataclass(frozen=True)
class File:
    """A picture, and until when, in seconds of the clock, it is kept."""

    content: bytes
    media_type: str
    expires: float


class FileNotFound(InvalidRequest):
    """No picture of this name is kept here."""

    status = 404
    code = "file_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no picture {name!r}: it is unknown, or was not kept any longer.")


class Files:
    """The pictures, by names that cannot be guessed."""

    def __init__(self, most_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most_bytes
        self._seconds = seconds
        self._clock = clock
        self._files: dict[str, File] = {}
        self._bytes = 0

    def keep(self, content: bytes, format: str) -> str:
        """Keep a picture and return its name."""
        name = f"{secrets.token_urlsafe(24)}.{format}"
        self._files[name] = File(content, f"image/{format}", self._clock() + self._seconds)
        self._bytes += len(content)
        self._tidy()
        return name

    def get(self, name: str) -> File:
        """Return a picture; FileNotFound if it is gone."""
        self._tidy()
        if name not in self._files:
            raise FileNotFound(name)
        return self._files[name]

    def drop(self, name: str) -> None:
        """Let go of a picture, if it is still there."""
        if (file := self._files.pop(name, None)) is not None:
            self._bytes -= len(file.content)

    def _tidy(self) -> None:
        # They are in the order in which they came, and so expire.
        for name, file in list(self._files.items()):
            if self._bytes <= self._most and file.expires > self._clock():
                return
            self.drop(name)
