"""Stores responses for a limited time in SQLite, in memory or in a file, so that requests can refer to them.

Responses are stored as JSON text. Their number and their size are limited: the least recently used are evicted first.
Using a response also marks the conversation before it as used, so that no active conversation loses its beginning.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_host._apis.responses.conversation_store import (
    CONVERSATION_TABLES,
    ConversationStore,
    StoreLimits,
    dumps,
    evict,
)
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
CREATE TABLE IF NOT EXISTS events (response TEXT PRIMARY KEY, events TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS gone_events AFTER DELETE ON responses
    BEGIN DELETE FROM events WHERE response = old.id; END;
"""
# Background responses that a restart of the server has interrupted.
INTERRUPTED = """
UPDATE responses SET response = json_set(
    response, '$.status', 'failed', '$.error',
    json('{"code": "server_error", "message": "The server was restarted before the response was complete."}')
) WHERE json_extract(response, '$.status') IN ('queued', 'in_progress')
"""
# `depth` counts back from the requested response.
CONVERSATION = """
WITH RECURSIVE conversation (id, previous, depth) AS (
    SELECT id, previous, 0 FROM responses WHERE id = ?
    UNION ALL
    SELECT r.id, r.previous, c.depth + 1 FROM responses r JOIN conversation c ON r.id = c.previous
)
"""


@dataclass(frozen=True)
class StoredResponse:
    """A response and the items of its input, without those of earlier responses.

    `events` are the events of its stream as JSON, for a background response.
    """

    response: dict[str, Any]
    input: Sequence[dict[str, Any]]
    events: Sequence[str] = ()

    @property
    def previous_id(self) -> str | None:
        id: str | None = self.response["previous_response_id"]
        return id

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items of the input and the output."""
        return [*self.input, *self.response["output"]]


class ResponseStore:
    """The stored responses; not thread-safe. `now` returns seconds since the epoch. UsageError if `path` is invalid."""

    def __init__(self, path: Path | None, limits: StoreLimits, now: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._now = now
        try:
            if path is not None:
                # Conversations are private.
                path.touch(mode=0o600)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from error
        try:
            # After a crash of the machine the latest responses may be lost, but the file is consistent.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(TABLES + CONVERSATION_TABLES)
            self._db.execute(INTERRUPTED)
        except sqlite3.Error as error:
            self._db.close()
            raise _unusable(path, error) from error
        self.conversations = ConversationStore(self._db, limits, now)

    def close(self) -> None:
        """Close the database; SQLite merges its write-ahead log into the file."""
        self._db.close()

    def put(self, stored: StoredResponse) -> bool:
        """Store a response; False if it exceeds the size of the whole store."""
        response, input = dumps(stored.response), dumps(stored.input)
        events = dumps(stored.events) if stored.events else ""
        size = len(response) + len(input) + len(events)
        if size > self._limits.bytes or not self._limits.entries:
            return False
        id = stored.response["id"]
        items = [(item["id"], id) for item in stored.items]
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._delete_expired()
            row = (id, stored.previous_id, self._now(), size, response, input)
            self._db.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?)", row)
            self._db.executemany("INSERT OR IGNORE INTO items VALUES (?, ?)", items)
            if events:
                self._db.execute("INSERT OR REPLACE INTO events VALUES (?, ?)", (id, events))
            evict(self._db, self._limits)
        return True

    def get(self, id: str) -> StoredResponse | None:
        """Return the response with this id."""
        with self._db:
            self._delete_expired()
            row = self._db.execute("SELECT response, input FROM responses WHERE id = ?", (id,)).fetchone()
        return _stored(*row) if row else None

    def events(self, id: str) -> list[str]:
        """Return the events of a background response as JSON; empty if none are stored."""
        row = self._db.execute("SELECT events FROM events WHERE response = ?", (id,)).fetchone()
        return list(json.loads(row[0])) if row else []

    def conversation(self, id: str) -> list[StoredResponse]:
        """Return the response with this id and all before it, oldest first, and mark them as used."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._delete_expired()
            self._db.execute(
                f"{CONVERSATION} UPDATE responses SET used = ? WHERE id IN (SELECT id FROM conversation)",
                (id, self._now()),
            )
            query = "SELECT response, input FROM conversation JOIN responses USING (id) ORDER BY depth DESC"
            rows = self._db.execute(f"{CONVERSATION} {query}", (id,)).fetchall()
        return [_stored(*row) for row in rows]

    def items(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the input and output items with these ids, by id; each response is parsed once."""
        placeholders = ", ".join("?" * len(ids))
        with self._db:
            self._delete_expired()
            owners: dict[str, set[str]] = {}
            for id, owner in self._db.execute(f"SELECT id, response FROM items WHERE id IN ({placeholders})", ids):
                owners.setdefault(owner, set()).add(id)
            found: dict[str, dict[str, Any]] = {}
            for owner, wanted in owners.items():
                row = self._db.execute("SELECT response, input FROM responses WHERE id = ?", (owner,)).fetchone()
                for item in _stored(*row).items:
                    if item["id"] in wanted:
                        found.setdefault(item["id"], item)
        return {**self.conversations.items_with(ids), **found}

    def delete(self, id: str) -> bool:
        """Delete a response; False if it is not stored."""
        with self._db:
            self._delete_expired()
            return self._db.execute("DELETE FROM responses WHERE id = ?", (id,)).rowcount > 0

    def _delete_expired(self) -> None:
        self._db.execute("DELETE FROM responses WHERE used < ?", (self._now() - self._limits.seconds,))


def _unusable(path: Path | None, error: Exception) -> UsageError:
    return UsageError(
        f"The response store {str(path)!r} cannot be used: {error}. Choose another file with --responses-store."
    )


def _stored(response: str, input: str) -> StoredResponse:
    return StoredResponse(json.loads(response), json.loads(input))
