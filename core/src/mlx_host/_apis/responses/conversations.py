"""The endpoints below /v1/conversations. Source: the OpenAI SDK's `types/conversations`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from mlx_host._apis.responses.conversation_store import StoredConversation
from mlx_host._apis.responses.examples import (
    CONVERSATION,
    CONVERSATION_CREATE,
    CONVERSATION_DELETED,
    CONVERSATION_ITEMS,
    INPUT_ITEMS,
)
from mlx_host._apis.responses.items import Item, ItemNotFoundError
from mlx_host._apis.responses.schema import ConversationCreateBody, ConversationUpdateBody, ItemsBody
from mlx_host._apis.responses.service import ResponseService
from mlx_host.api.http import JsonResponse, examples
from mlx_host.errors import InvalidRequestError

Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


class ConversationEndpoints:
    """Conversations and their items; `responses` returns the service once the server has started."""

    def __init__(self, responses: Callable[[], ResponseService]) -> None:
        self._responses = responses

    def add_routes(self, router: APIRouter) -> None:
        """Add the endpoints to a router."""
        base = "/v1/conversations"
        router.post(base, response_model=None, **examples(CONVERSATION_CREATE, CONVERSATION))(self.create)
        one = f"{base}/{{id}}"
        router.get(one, response_model=None, **examples(response=CONVERSATION))(self.retrieve)
        update = examples({"metadata": {"topic": "travel"}}, CONVERSATION)
        router.post(one, response_model=None, **update)(self.update)
        router.delete(one, response_model=None, **examples(response=CONVERSATION_DELETED))(self.delete)
        items = f"{one}/items"
        router.get(items, response_model=None, **examples(response=INPUT_ITEMS))(self.items)
        router.post(items, response_model=None, **examples(CONVERSATION_ITEMS, INPUT_ITEMS))(self.add_items)
        item = f"{items}/{{item_id}}"
        router.get(item, response_model=None, **examples(response=INPUT_ITEMS["data"][0]))(self.item)
        router.delete(item, response_model=None, **examples(response=CONVERSATION))(self.delete_item)

    async def create(self, body: ConversationCreateBody) -> Response:
        """Create a conversation."""
        stored = await self._responses().create_conversation(body.metadata or {}, body.items or [])
        return JsonResponse(conversation_json(stored))

    async def retrieve(self, id: str) -> Response:
        """Return a conversation."""
        return JsonResponse(conversation_json(await self._responses().conversation(id)))

    async def update(self, id: str, body: ConversationUpdateBody) -> Response:
        """Replace the metadata of a conversation."""
        return JsonResponse(conversation_json(await self._responses().update_conversation(id, body.metadata)))

    async def delete(self, id: str) -> Response:
        """Delete a conversation and its items."""
        await self._responses().delete_conversation(id)
        return JsonResponse({"id": id, "object": "conversation.deleted", "deleted": True})

    async def items(self, id: str, after: str | None = None, limit: Limit = 20, order: Order = "desc") -> Response:
        """List the items of a conversation."""
        items = await self._responses().conversation_items(id)
        return JsonResponse(page(items[::-1] if order == "desc" else items, after, limit))

    async def add_items(self, id: str, body: ItemsBody) -> Response:
        """Add items to a conversation."""
        items = await self._responses().add_items(id, body.items)
        return JsonResponse(page(items, None, max(1, len(items))))

    async def item(self, id: str, item_id: str) -> Response:
        """Return an item of a conversation."""
        for item in await self._responses().conversation_items(id):
            if item["id"] == item_id:
                return JsonResponse(item)
        raise ItemNotFoundError(f"Item with id {item_id!r} not found in conversation {id!r}.")

    async def delete_item(self, id: str, item_id: str) -> Response:
        """Delete an item of a conversation."""
        return JsonResponse(conversation_json(await self._responses().delete_item(id, item_id)))


def conversation_json(stored: StoredConversation) -> dict[str, Any]:
    """Return the object of a conversation."""
    return {
        "id": stored.id,
        "object": "conversation",
        "created_at": stored.created,
        "metadata": dict(stored.metadata),
    }


def page(items: Sequence[Item], after: str | None, limit: int) -> dict[str, Any]:
    """Return a list object with at most `limit` items, starting after the item with id `after`."""
    start = 0
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequestError(f"after: item with id {after!r} not found.", param="after")
        start = ids.index(after) + 1
    data = items[start : start + limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else "",
        "last_id": data[-1]["id"] if data else "",
        "has_more": start + limit < len(items),
    }
