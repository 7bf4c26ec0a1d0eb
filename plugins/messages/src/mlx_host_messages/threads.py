"""Stores conversations, so that a request can send its new messages only.

A message that a request with `thread` creates is stored under its id, with its turn and the id of the message before.
The store is in memory: if a message is evicted or the server is restarted, the threads of the SDK send the whole
conversation again. Source: `lib/threads` of the Anthropic SDK.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mlx_host.errors import InvalidRequestError

from mlx_host_messages.schema import AnthropicMessage, PromptBody

BodyT = TypeVar("BodyT", bound=PromptBody)

# Fields that a thread keeps from the request that created it.
CREATE_ONLY = ("system", "tools")


class ThreadNotFoundError(InvalidRequestError):
    """The message from which a thread continues is not stored."""

    status = 404
    code = "thread_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(
            f"thread.previous_message_id: message {id!r} not found: it does not exist, was created without thread, "
            "or was evicted. Send the whole conversation.",
            param="thread.previous_message_id",
        )


@dataclass(frozen=True)
class Turn:
    """One turn of a thread: its messages as JSON, the id of the message before it, and the thread's own fields."""

    messages: str
    previous: str | None
    fields: Mapping[str, Any]

    @property
    def size(self) -> int:
        return len(self.messages) + (0 if self.previous else len(json.dumps(self.fields)))


class ThreadStore:
    """The turns of threads by the id of the message that ended them; the least recently used are evicted first."""

    def __init__(self, max_turns: int, max_bytes: float) -> None:
        self._turns: OrderedDict[str, Turn] = OrderedDict()
        self._max_turns = max_turns
        self._max_bytes = max_bytes
        self._bytes = 0

    def resolve(self, body: BodyT) -> BodyT:
        """Return the body with the whole conversation. Raises InvalidRequestError and ThreadNotFoundError."""
        if body.thread is None or body.thread.type == "create":
            return body
        for name in CREATE_ONLY:
            if getattr(body, name) is not None:
                raise InvalidRequestError(
                    f"{name} cannot be set with thread of type 'continue', which keeps it from the first request.",
                    param=name,
                )
        if body.thread.previous_message_id is None:
            raise InvalidRequestError(
                "thread of type 'continue' requires previous_message_id.", param="thread.previous_message_id"
            )
        turns = self._conversation(body.thread.previous_message_id)
        history = [AnthropicMessage.model_validate(message) for turn in turns for message in json.loads(turn.messages)]
        return body.model_copy(update={**turns[-1].fields, "messages": [*history, *body.messages]})

    def _conversation(self, id: str) -> list[Turn]:
        turns: list[Turn] = []
        next_id: str | None = id
        while next_id is not None:
            turn = self._turns.get(next_id)
            if turn is None:
                raise ThreadNotFoundError(next_id)
            self._turns.move_to_end(next_id)
            turns.insert(0, turn)
            next_id = turn.previous
        return turns

    def add(self, body: PromptBody, new: Sequence[AnthropicMessage], message: Mapping[str, Any]) -> None:
        """Store the turn that `message` ended; `body` is resolved, and `new` are the messages of the request."""
        if body.thread is None:
            return
        messages = [each.model_dump(exclude_unset=True) for each in new]
        messages.append({"role": "assistant", "content": message["content"]})
        fields = {name: getattr(body, name) for name in CREATE_ONLY}
        turn = Turn(json.dumps(messages), body.thread.previous_message_id, fields)
        self._turns[message["id"]] = turn
        self._bytes += turn.size
        while self._turns and (len(self._turns) > self._max_turns or self._bytes > self._max_bytes):
            _, evicted = self._turns.popitem(last=False)
            self._bytes -= evicted.size
