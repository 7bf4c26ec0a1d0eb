"""The rotating log file."""

from __future__ import annotations

import contextlib
import re
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_FILE_BYTES = 500 * 1000 * 1000
RETENTION_SECONDS = 10 * 24 * 3600


class TimestampedRotatingFileHandler(RotatingFileHandler):
    """Writes a log file that is renamed to `<name>.<time>` when it reaches `max_bytes`.

    Renamed files are deleted after `retention` seconds.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_FILE_BYTES, retention: float = RETENTION_SECONDS) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # With a backup count of zero, the base class would never roll over.
        super().__init__(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8")
        self._path = Path(self.baseFilename)
        self._retention = retention

    def doRollover(self) -> None:
        if self.stream:
            self.stream.close()
            self.stream = None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target, number = self._path.with_name(f"{self._path.name}.{stamp}"), 0
        while target.exists():
            number += 1
            target = self._path.with_name(f"{self._path.name}.{stamp}.{number}")
        self._path.rename(target)
        self.delete_expired(time.time())

    def delete_expired(self, now: float) -> None:
        """Delete the rotated files that were last written more than `retention` seconds before `now`."""
        rotated = re.compile(re.escape(self._path.name) + r"\.\d{8}-\d{6}(\.\d+)?")
        for file in list(self._path.parent.iterdir()):
            if rotated.fullmatch(file.name):
                # Another server that logs to the same file may have deleted it.
                with contextlib.suppress(FileNotFoundError):
                    if now - file.stat().st_mtime > self._retention:
                        file.unlink()
