"""Keeps responses for a while, so that requests can refer to them: in SQLite, in memory or in a file.

What is kept is JSON text. Both a number and a size bound it: what was not used for longest goes first. Using a response
means using the whole conversation before it, so that no running conversation loses its beginning.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_host.errors import UsageError

TABLES = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, previous TEXT, used REAL NOT NULL, size INTEGER NOT NULL, response TEXT NOT NULL,
    input TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, response TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oldest ON responses (used);
CREATE INDEX IF NOT EXISTS items_of ON items (response);
CREATE TRIGGER IF NOT EXISTS gone AFTER DELETE ON responses
    BEGIN DELETE FROM items WHERE response = old.id; END;
"""
# `place` counts back from the response that is asked for.
CONVERSATION = """
WITH RECURSIVE conversation (id, previous, place) AS (
    SELECT id, previous, 0 FROM responses WHERE id = ?
    UNION ALL
    SELECT r.id, r.previous, c.place + 1 FROM responses r JOIN conversation c ON r.id = c.previous
)
"""


@dataclass(frozen=True)
class Kept:
    """A response and the items of its own input."""

    response: dict[str, Any]
    input: list[dict[str, Any]]

    @property
    def previous(self) -> str | None:
        id: str | None = self.response["previous_response_id"]
        return id


@dataclass(frozen=True)
class StoreLimits:
    """How many responses, how many bytes of JSON in all, and how many seconds after its last use each is kept."""

    entries: int
    bytes: float
    seconds: float


class ResponseStore:
    """May be used from any thread; `now` tells the time in seconds since the epoch."""

    def __init__(self, path: Path | None, limits: StoreLimits, now: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._now = now
        self._lock = threading.Lock()
        try:
            if path is not None:
                # Conversations are nobody else's business.
                path.touch(mode=0o600)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            # Left open, the file would lack what SQLite has put beside it so far.
            self._close = weakref.finalize(self, self._db.close)
            # What a crash of the machine may lose is the last moments, never the file.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(TABLES)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(
                f"The response store {str(path)!r} cannot be used: {error}. Give another --response-store."
            ) from error

    def close(self) -> None:
        """Let go of the file, whole; the end of the program does so, too."""
        self._close()

    def put(self, kept: Kept) -> bool:
        """Keep a response; False if it is larger than all that may be kept."""
        response, input = _text(kept.response), _text(kept.input)
        size = len(response) + len(input)
        if size > self._limits.bytes or not self._limits.entries:
            return False
        id = kept.response["id"]
        items = [(item["id"], id) for item in (*kept.input, *kept.response["output"])]
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._forget_expired()
            row = (id, kept.previous, self._now(), size, response, input)
            self._db.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?)", row)
            self._db.executemany("INSERT OR IGNORE INTO items VALUES (?, ?)", items)
            self._shrink()
        return True

    def get(self, id: str) -> Kept | None:
        """The response with this id."""
        with self._lock, self._db:
            self._forget_expired()
            row = self._db.execute("SELECT response, input FROM responses WHERE id = ?", (id,)).fetchone()
        return _kept(row) if row else None

    def conversation(self, id: str) -> list[Kept]:
        """The response with this id and all before it, oldest first; marks them as used."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._forget_expired()
            self._db.execute(
                f"{CONVERSATION} UPDATE responses SET used = ? WHERE id IN (SELECT id FROM conversation)",
                (id, self._now()),
            )
            all_of_it = "SELECT response, input FROM conversation JOIN responses USING (id) ORDER BY place DESC"
            rows = self._db.execute(f"{CONVERSATION} {all_of_it}", (id,)).fetchall()
        return [_kept(row) for row in rows]

    def item(self, id: str) -> dict[str, Any] | None:
        """The item with this id, of input or output."""
        with self._lock:
            row = self._db.execute("SELECT response FROM items WHERE id = ?", (id,)).fetchone()
        kept = self.get(row[0]) if row else None
        items = (*kept.input, *kept.response["output"]) if kept else ()
        return next((item for item in items if item["id"] == id), None)

    def delete(self, id: str) -> bool:
        """Forget a response; whether there was one."""
        with self._lock, self._db:
            self._forget_expired()
            return self._db.execute("DELETE FROM responses WHERE id = ?", (id,)).rowcount > 0

    def _forget_expired(self) -> None:
        self._db.execute("DELETE FROM responses WHERE used < ?", (self._now() - self._limits.seconds,))

    def _shrink(self) -> None:
        while True:
            count, size = self._db.execute("SELECT count(*), sum(size) FROM responses").fetchone()
            if count <= self._limits.entries and size <= self._limits.bytes:
                return
            self._db.execute("DELETE FROM responses WHERE id = (SELECT id FROM responses ORDER BY used LIMIT 1)")


def _text(value: Any) -> str:
    # Escaped, for a model may say half a surrogate pair, which SQLite cannot hold.
    return json.dumps(value, separators=(",", ":"))


def _kept(row: tuple[str, str]) -> Kept:
    return Kept(json.loads(row[0]), json.loads(row[1]))
