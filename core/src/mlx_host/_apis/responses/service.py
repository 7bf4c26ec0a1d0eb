"""Finds and stores responses, including those in progress."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from mlx_host._apis.responses.builder import ResponseBuilder
from mlx_host._apis.responses.conversation_store import StoredConversation
from mlx_host._apis.responses.event_log import EventLog
from mlx_host._apis.responses.items import Item, ItemNotFoundError, new_id, normalize_items, referenced_ids
from mlx_host._apis.responses.schema import InputBody
from mlx_host._apis.responses.store import ResponseStore, StoredResponse
from mlx_host.errors import InvalidRequestError, RequestTooLargeError

log = logging.getLogger(__name__)

UNFINISHED = ("queued", "in_progress")

P = ParamSpec("P")
T = TypeVar("T")


class ResponseNotFoundError(InvalidRequestError):
    """No response with this id is stored."""

    status = 404
    code = "response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"Response with id {id!r} not found: it does not exist, was not stored, was deleted or has expired."
        )


class PreviousResponseNotFoundError(InvalidRequestError):
    """The response that a request continues from is not stored."""

    code = "previous_response_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"Previous response with id {id!r} not found: it does not exist, was not stored, was deleted or has "
            "expired. Send the whole conversation as input.",
            param="previous_response_id",
        )


class ConversationNotFoundError(InvalidRequestError):
    """No conversation with this id is stored."""

    status = 404
    code = "conversation_not_found"

    def __init__(self, id: str, param: str | None = None) -> None:
        super().__init__(
            f"Conversation with id {id!r} not found: it does not exist, was deleted or has expired.", param=param
        )


class ResponseService:
    """Finds and stores responses. The store is used on one separate thread, because queries can be slow."""

    def __init__(self, store: ResponseStore) -> None:
        self._in_progress: dict[str, ResponseBuilder] = {}
        self._logs: dict[str, EventLog] = {}
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="response-store")

    def close(self) -> None:
        """Finish pending operations and close the store."""
        self._thread.shutdown()
        self._store.close()

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._thread.submit(function, *args, **kwargs))

    @contextmanager
    def in_progress(self, builder: ResponseBuilder, log: EventLog | None = None) -> Iterator[None]:
        """Make a response in progress, and its events if they are kept, available by its id in this context."""
        self._in_progress[builder.id] = builder
        if log is not None:
            self._logs[builder.id] = log
        try:
            yield
        finally:
            del self._in_progress[builder.id]
            self._logs.pop(builder.id, None)

    async def read(self, body: InputBody) -> tuple[list[Item], list[Item]]:
        """Return the items of the conversation before a request, and the request's own."""
        if body.conversation and body.previous_response_id:
            raise InvalidRequestError(
                "conversation and previous_response_id cannot be combined; set only one of them.", param="conversation"
            )
        history: list[Item] = []
        if body.previous_response_id:
            history = await self._history(body.previous_response_id)
        elif (conversation := body.conversation_id()) is not None:
            await self.conversation(conversation, "conversation")
            history = await self._run(self._store.conversations.items, conversation)
        return history, await self.normalize(body.input)

    async def normalize(self, input: str | Sequence[Item] | None) -> list[Item]:
        """Return input as normalized items, with references replaced by the stored items."""
        ids = referenced_ids(input)
        stored = await self._run(self._store.items, ids) if ids else {}
        return await asyncio.to_thread(normalize_items, input, stored)

    async def _history(self, id: str) -> list[Item]:
        conversation = await self._run(self._store.conversation, id)
        if not conversation:
            raise PreviousResponseNotFoundError(id)
        if (missing := conversation[0].previous_id) is not None:
            raise PreviousResponseNotFoundError(missing)
        if conversation[-1].response["status"] in UNFINISHED:
            raise InvalidRequestError(
                f"Previous response with id {id!r} is still in progress; wait until it is complete.",
                param="previous_response_id",
            )
        return [item for each in conversation for item in each.items]

    async def store(self, response: dict[str, Any], items: Sequence[Item], events: Sequence[str] = ()) -> None:
        """Store a finished response and its input, if its field `store` is true; set it to false if that fails.

        A response that has not failed is also added to its conversation.
        """
        if response["store"]:
            response["store"] = await self._run(self._put, StoredResponse(response, items, events))
        conversation = response.get("conversation")
        if conversation is not None and response["status"] in ("completed", "incomplete"):
            added = [*items, *response["output"]]
            await self._run(self._store.conversations.append, conversation["id"], added)

    def _put(self, response: StoredResponse) -> bool:
        try:
            return self._store.put(response)
        except sqlite3.Error:
            # For example because the disk is full; the client still gets its response.
            log.exception("response %s could not be stored", response.response["id"])
            return False

    async def events(self, id: str) -> EventLog:
        """Return the events of a background response; InvalidRequestError if they are not kept."""
        if id in self._logs:
            return self._logs[id]
        await self.get(id)
        kept = await self._run(self._store.events, id)
        if not kept:
            raise InvalidRequestError(
                f"The events of response {id!r} are not stored; only responses created with background can be "
                "streamed.",
                param="stream",
            )
        return EventLog.complete(kept)

    async def get(self, id: str) -> dict[str, Any]:
        """Return a response in progress or a stored one."""
        if id in self._in_progress:
            return self._in_progress[id].response
        stored = await self._run(self._store.get, id)
        if stored is None:
            raise ResponseNotFoundError(id)
        return stored.response

    async def input_items(self, id: str) -> list[Item]:
        """Return the input items of a response, after the stored items of the conversation that it continues."""
        conversation = await self._run(self._store.conversation, id)
        if not conversation:
            raise ResponseNotFoundError(id)
        *before, last = conversation
        return [item for each in before for item in each.items] + list(last.input)

    async def delete(self, id: str) -> None:
        """Delete a stored response; one in progress is not stored when it is complete."""
        if (builder := self._in_progress.get(id)) is not None:
            builder.response["store"] = False
        if not await self._run(self._store.delete, id) and builder is None:
            raise ResponseNotFoundError(id)

    async def create_conversation(self, metadata: Mapping[str, str], input: Sequence[Item]) -> StoredConversation:
        """Store a conversation with these items."""
        id = new_id("conv")
        items = await self.normalize(input)
        if not await self._run(self._store.conversations.create, id, metadata, items):
            raise RequestTooLargeError("The conversation exceeds the limit of --responses-store-mb.", param="items")
        return await self.conversation(id)

    async def conversation(self, id: str, param: str | None = None) -> StoredConversation:
        """Return a stored conversation."""
        stored = await self._run(self._store.conversations.get, id)
        if stored is None:
            raise ConversationNotFoundError(id, param)
        return stored

    async def update_conversation(self, id: str, metadata: Mapping[str, str]) -> StoredConversation:
        """Replace the metadata of a conversation."""
        await self._run(self._store.conversations.update, id, metadata)
        return await self.conversation(id)

    async def delete_conversation(self, id: str) -> None:
        """Delete a conversation."""
        if not await self._run(self._store.conversations.delete, id):
            raise ConversationNotFoundError(id)

    async def conversation_items(self, id: str) -> list[Item]:
        """Return the items of a conversation, oldest first."""
        await self.conversation(id)
        return await self._run(self._store.conversations.items, id)

    async def add_items(self, id: str, input: Sequence[Item]) -> list[Item]:
        """Add items to a conversation, and return them in the form in which they are stored."""
        await self.conversation(id)
        items = await self.normalize(input)
        if not await self._run(self._store.conversations.append, id, items):
            raise RequestTooLargeError("The conversation exceeds the limit of --responses-store-mb.", param="items")
        return items

    async def delete_item(self, id: str, item_id: str) -> StoredConversation:
        """Delete an item of a conversation."""
        if not await self._run(self._store.conversations.delete_item, id, item_id):
            raise ItemNotFoundError(f"Item with id {item_id!r} not found in conversation {id!r}.")
        return await self.conversation(id)
