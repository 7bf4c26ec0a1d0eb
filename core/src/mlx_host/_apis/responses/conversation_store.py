"""Stores conversations in the database of the responses, within the same limits."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

CONVERSATION_TABLES = """
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, created INTEGER NOT NULL, used REAL NOT NULL, size INTEGER NOT NULL, metadata TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conversation_items (
    position INTEGER PRIMARY KEY AUTOINCREMENT, conversation TEXT NOT NULL, id TEXT NOT NULL, item TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS items_of_conversation ON conversation_items (conversation);
CREATE INDEX IF NOT EXISTS conversation_item_ids ON conversation_items (id);
CREATE TRIGGER IF NOT EXISTS gone_conversation AFTER DELETE ON conversations
    BEGIN DELETE FROM conversation_items WHERE conversation = old.id; END;
"""


@dataclass(frozen=True)
class StoreLimits:
    """The maximum number of responses, and of conversations, their total size in bytes of JSON, and seconds from last
    use to expiry.
    """

    entries: int
    bytes: float
    seconds: float


@dataclass(frozen=True)
class StoredConversation:
    """A conversation without its items; `created` is in seconds since the epoch."""

    id: str
    created: int
    metadata: Mapping[str, str]


class ConversationStore:
    """The stored conversations; not thread-safe. `now` returns seconds since the epoch."""

    def __init__(self, db: sqlite3.Connection, limits: StoreLimits, now: Callable[[], float]) -> None:
        self._db = db
        self._limits = limits
        self._now = now

    def create(self, id: str, metadata: Mapping[str, str], items: Sequence[Json]) -> bool:
        """Store a new conversation; False if it exceeds the limits of the store."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            now = self._now()
            row = (id, int(now), now, 0, dumps(metadata))
            self._db.execute("INSERT INTO conversations VALUES (?, ?, ?, ?, ?)", row)
            self._append(id, items)
            return self._exists(id)

    def get(self, id: str) -> StoredConversation | None:
        """Return a conversation and mark it as used."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM conversations WHERE used < ?", (self._now() - self._limits.seconds,))
            self._db.execute("UPDATE conversations SET used = ? WHERE id = ?", (self._now(), id))
            row = self._db.execute("SELECT id, created, metadata FROM conversations WHERE id = ?", (id,)).fetchone()
        return StoredConversation(row[0], row[1], json.loads(row[2])) if row else None

    def update(self, id: str, metadata: Mapping[str, str]) -> None:
        """Replace the metadata of a conversation."""
        with self._db:
            self._db.execute("UPDATE conversations SET metadata = ? WHERE id = ?", (dumps(metadata), id))

    def delete(self, id: str) -> bool:
        """Delete a conversation and its items; False if it is not stored."""
        with self._db:
            return self._db.execute("DELETE FROM conversations WHERE id = ?", (id,)).rowcount > 0

    def append(self, id: str, items: Sequence[Json]) -> bool:
        """Add items at the end; False if the conversation is not stored or exceeds the limits of the store."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if not self._exists(id):
                return False
            self._append(id, items)
            return self._exists(id)

    def items(self, id: str) -> list[Json]:
        """Return the items of a conversation, oldest first."""
        query = "SELECT item FROM conversation_items WHERE conversation = ? ORDER BY position"
        return [json.loads(item) for (item,) in self._db.execute(query, (id,))]

    def items_with(self, ids: Sequence[str]) -> dict[str, Json]:
        """Return the items with these ids in any conversation, by id."""
        placeholders = ", ".join("?" * len(ids))
        query = f"SELECT id, item FROM conversation_items WHERE id IN ({placeholders})"
        return {id: json.loads(item) for id, item in self._db.execute(query, list(ids))}

    def delete_item(self, id: str, item_id: str) -> bool:
        """Delete an item of a conversation; False if it is not stored."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            where = "WHERE conversation = ? AND id = ?"
            size = self._db.execute(
                f"SELECT sum(length(item)) FROM conversation_items {where}", (id, item_id)
            ).fetchone()[0]
            if size is None:
                return False
            self._db.execute(f"DELETE FROM conversation_items {where}", (id, item_id))
            self._db.execute("UPDATE conversations SET size = size - ? WHERE id = ?", (size, id))
            return True

    def _append(self, id: str, items: Sequence[Json]) -> None:
        rows = [(id, item["id"], dumps(item)) for item in items]
        self._db.executemany("INSERT INTO conversation_items (conversation, id, item) VALUES (?, ?, ?)", rows)
        size = sum(len(item) for _, _, item in rows)
        self._db.execute("UPDATE conversations SET size = size + ?, used = ? WHERE id = ?", (size, self._now(), id))
        evict(self._db, self._limits)

    def _exists(self, id: str) -> bool:
        return self._db.execute("SELECT 1 FROM conversations WHERE id = ?", (id,)).fetchone() is not None


def evict(db: sqlite3.Connection, limits: StoreLimits) -> None:
    """Delete the least recently used responses and conversations until the limits are met."""
    while True:
        excess = None
        sizes = 0
        for table in ("responses", "conversations"):
            count, size = db.execute(f"SELECT count(*), coalesce(sum(size), 0) FROM {table}").fetchone()
            sizes += size
            if count > limits.entries:
                excess = table
        if excess is None and sizes <= limits.bytes:
            return
        tables = [excess] if excess is not None else ["responses", "conversations"]
        oldest = " UNION ALL ".join(f"SELECT '{table}' AS place, id, used FROM {table}" for table in tables)
        place, id = db.execute(f"SELECT place, id FROM ({oldest}) ORDER BY used LIMIT 1").fetchone()
        db.execute(f"DELETE FROM {place} WHERE id = ?", (id,))


def dumps(value: Any) -> str:
    """Return a value as ASCII, because a model may generate an unpaired surrogate, which SQLite cannot store."""
    return json.dumps(value, separators=(",", ":"))
