"""Finds and stores responses, including those in progress."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from mlx_host._apis.responses.builder import ResponseBuilder
from mlx_host._apis.responses.items import Item, normalize_items, referenced_ids
from mlx_host._apis.responses.schema import InputBody
from mlx_host._apis.responses.store import ResponseStore, StoredResponse
from mlx_host.errors import InvalidRequestError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class ResponseNotFoundError(InvalidRequestError):
    """No response with this id is stored."""

    status = 404
    code = "response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"Response with id {id!r} not found: it is unknown, deleted, expired or was not stored.")


class PreviousResponseNotFoundError(InvalidRequestError):
    """The response that a request continues from is not stored."""

    code = "previous_response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"Previous response with id {id!r} not found: it is unknown, deleted, expired or was not stored. "
            "Send the whole conversation as input.",
            param="previous_response_id",
        )


class ResponseService:
    """Finds and stores responses. The store is used on one separate thread, because queries can be slow."""

    def __init__(self, store: ResponseStore) -> None:
        self._in_progress: dict[str, ResponseBuilder] = {}
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="response-store")

    def close(self) -> None:
        """Finish pending operations and close the store."""
        self._thread.shutdown()
        self._store.close()

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._thread.submit(function, *args, **kwargs))

    @contextmanager
    def in_progress(self, builder: ResponseBuilder) -> Iterator[None]:
        """Make a response in progress available by its id, until the context is left."""
        self._in_progress[builder.id] = builder
        try:
            yield
        finally:
            del self._in_progress[builder.id]

    async def read(self, body: InputBody) -> tuple[list[Item], list[Item]]:
        """Return the items of the conversation before a request, and the request's own."""
        ids = referenced_ids(body.input)
        history = await self._history(body.previous_response_id) if body.previous_response_id else []
        stored = await self._run(self._store.items, ids) if ids else {}
        return history, await asyncio.to_thread(normalize_items, body.input, stored)

    async def _history(self, id: str) -> list[Item]:
        conversation = await self._run(self._store.conversation, id)
        if not conversation:
            raise PreviousResponseNotFoundError(id)
        if (missing := conversation[0].previous_id) is not None:
            raise PreviousResponseNotFoundError(missing)
        return [item for each in conversation for item in each.items]

    async def store(self, response: dict[str, Any], items: Sequence[Item]) -> None:
        """Store a finished response and its input, if its field `store` is true; set it to false if that fails."""
        if response["store"]:
            response["store"] = await self._run(self._put, StoredResponse(response, items))

    def _put(self, response: StoredResponse) -> bool:
        try:
            return self._store.put(response)
        except sqlite3.Error:
            # For example because the disk is full; the client still gets its response.
            log.exception("response %s could not be stored", response.response["id"])
            return False

    async def get(self, id: str) -> dict[str, Any]:
        """Return a response in progress or a stored one."""
        if id in self._in_progress:
            return self._in_progress[id].response
        stored = await self._run(self._store.get, id)
        if stored is None:
            raise ResponseNotFoundError(id)
        return stored.response

    async def input_items(self, id: str) -> list[Item]:
        """Return the items of the conversation that a response continues, as far as they are stored."""
        conversation = await self._run(self._store.conversation, id)
        if not conversation:
            raise ResponseNotFoundError(id)
        *before, last = conversation
        return [item for each in before for item in each.items] + list(last.input)

    async def delete(self, id: str) -> None:
        """Delete a stored response."""
        if not await self._run(self._store.delete, id):
            raise ResponseNotFoundError(id)
