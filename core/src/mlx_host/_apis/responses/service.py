"""What requests remember of responses: those that are kept, and those that are being streamed."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlx_host._apis.responses.input import Item, read_items
from mlx_host._apis.responses.response import Response
from mlx_host._apis.responses.schema import InputBody
from mlx_host._apis.responses.store import Kept, ResponseStore
from mlx_host.errors import InvalidRequest

log = logging.getLogger(__name__)


class ResponseNotFound(InvalidRequest):
    """No response with this id is kept here."""

    status = 404
    code = "response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"Response with id {id!r} not found: it is unknown, deleted, expired or was not stored.")


class PreviousNotFound(InvalidRequest):
    """The response that a request goes on from is not kept here."""

    code = "previous_response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"Previous response with id {id!r} not found: it is unknown, deleted, expired or was not stored. "
            "Send the whole conversation as input.",
            param="previous_response_id",
        )


class Memory:
    """The store as requests use it, off the event loop, and the responses that are on their way by their ids."""

    def __init__(self, store: ResponseStore) -> None:
        self.running: dict[str, Response] = {}
        self._store = store

    @contextmanager
    def run(self, response: Response) -> Iterator[None]:
        """Let a response be found while it is streamed."""
        self.running[response.id] = response
        try:
            yield
        finally:
            del self.running[response.id]

    async def read(self, body: InputBody) -> tuple[list[Item], list[Item]]:
        """What was said before a request, and what it says itself."""
        return await asyncio.to_thread(self._read, body)

    def _read(self, body: InputBody) -> tuple[list[Item], list[Item]]:
        before: list[Item] = []
        if body.previous_response_id:
            before = self._before(body.previous_response_id)
        return before, read_items(body.input, self._store.item)

    def _before(self, id: str) -> list[Item]:
        conversation = self._store.conversation(id)
        if not conversation:
            raise PreviousNotFound(id)
        if (missing := conversation[0].previous) is not None:
            raise PreviousNotFound(missing)
        return [item for kept in conversation for item in (*kept.input, *kept.response["output"])]

    async def keep(self, response: dict[str, Any], input: list[Item]) -> None:
        """Keep a response, unless it was not asked for; the response says so where it cannot be kept."""
        if response["store"]:
            response["store"] = await asyncio.to_thread(self._keep, Kept(response, input))

    def _keep(self, kept: Kept) -> bool:
        try:
            return self._store.put(kept)
        except sqlite3.Error:
            # Such as a full disk. The answer is there all the same.
            log.exception("response %s cannot be kept", kept.response["id"])
            return False

    async def get(self, id: str) -> dict[str, Any]:
        if id in self.running:
            return self.running[id].whole
        kept = await asyncio.to_thread(self._store.get, id)
        if kept is None:
            raise ResponseNotFound(id)
        return kept.response

    async def input_of(self, id: str) -> list[Item]:
        """All items that a response is the answer to, as far as they are kept."""
        conversation = await asyncio.to_thread(self._store.conversation, id)
        if not conversation:
            raise ResponseNotFound(id)
        *before, last = conversation
        return [item for kept in before for item in (*kept.input, *kept.response["output"])] + last.input

    async def delete(self, id: str) -> None:
        if not await asyncio.to_thread(self._store.delete, id):
            raise ResponseNotFound(id)
