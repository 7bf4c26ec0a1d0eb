"""Builds OpenAI's response object and its stream events from the events of a chat reply.

The order of the events, as a state machine (`add_text` adds a part of a ChoiceDelta):

| state     | action     | next      | events                                                                    |
| --------- | ---------- | --------- | ------------------------------------------------------------------------- |
| PENDING   | start      | IDLE      | response.created, response.in_progress                                    |
| IDLE      | open_item  | ITEM_OPEN | response.output_item.added, response.content_part.added                   |
| ITEM_OPEN | add_text   | ITEM_OPEN | response.output_text.delta or response.reasoning_text.delta               |
| ITEM_OPEN | close_item | IDLE      | response.(output_text or reasoning_text).done, response.content_part.done, |
|           |            |           | response.output_item.done                                                 |
| IDLE      | open_call  | ITEM_OPEN | response.output_item.added                                                |
| ITEM_OPEN | add_text   | ITEM_OPEN | for a call: response.(function_call_arguments or                          |
|           |            |           | custom_tool_call_input).delta                                             |
| ITEM_OPEN | close_item | IDLE      | for a call: response.(…).done,                                            |
|           |            |           | response.output_item.done                                                 |
| IDLE      | end        | FINISHED  | response.completed, response.incomplete or response.failed                |

Text opens an item of its type if none is open, and closes an open one of another type; a call, the end and an error
close an open item. A complete call opens and closes its item at once; if its arguments are streamed, its first delta
opens the item and its last one closes it. A response that fails before it was started is started first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Literal

from mlx_host._apis.responses.output_items import (
    CallItem,
    EncodedReasoningItem,
    Event,
    ItemStatus,
    MessageItem,
    ReasoningItem,
    TextItem,
)
from mlx_host._apis.responses.response_object import usage_json
from mlx_host._apis.responses.tools import ToolCatalog
from mlx_host.api import ChatEvent, ChoiceCompleted, ChoiceDelta, OutputCompleted, VisiblePart
from mlx_host.api.openai_format import TokenCounts
from mlx_host.errors import InvalidRequestError, RequestError
from mlx_host.events import Logprobs, Progress, Started
from mlx_host.parsing import Content, Reasoning, ToolCall, ToolCallDelta

Action = Literal["start", "open_item", "add_text", "close_item", "open_call", "end"]


class State(Enum):
    """The state of a response; see the table above."""

    PENDING = auto()
    IDLE = auto()
    ITEM_OPEN = auto()
    FINISHED = auto()


NEXT_STATE: Mapping[tuple[State, Action], State] = {
    (State.PENDING, "start"): State.IDLE,
    (State.IDLE, "open_item"): State.ITEM_OPEN,
    (State.ITEM_OPEN, "add_text"): State.ITEM_OPEN,
    (State.ITEM_OPEN, "close_item"): State.IDLE,
    (State.IDLE, "open_call"): State.ITEM_OPEN,
    (State.IDLE, "end"): State.FINISHED,
}


class ResponseCancelledError(RequestError):
    """The response was cancelled by POST /v1/responses/{id}/cancel."""

    status = 409
    type = "invalid_request_error"
    code = "cancelled"
    retryable = False


class ResponseBuilder:
    """Builds a response object and the events that describe each step; `response` is the object so far.

    The events refer to the object: serialize them before the next call. A transition that is not in NEXT_STATE raises
    KeyError. `catalog` has the tools that calls refer to. With `encodes_reasoning`, reasoning items have
    `encrypted_content`. `counts` are the token counts of the reply, for the usage of a response that fails.
    """

    def __init__(
        self,
        response: dict[str, Any],
        catalog: ToolCatalog | None = None,
        *,
        encodes_reasoning: bool = False,
        counts: TokenCounts | None = None,
    ) -> None:
        self.response = response
        self._catalog = catalog or ToolCatalog()
        self._reasoning_item = EncodedReasoningItem if encodes_reasoning else ReasoningItem
        self._counts = counts
        self.id: str = response["id"]
        self._state = State.PENDING
        self._sequence_number = 0
        self._item: TextItem | CallItem | None = None
        self._end_status: ItemStatus = "completed"
        # Log-probabilities of tokens whose text has not arrived yet.
        self._logprobs: list[Logprobs] = []

    @property
    def is_pending(self) -> bool:
        """Whether the model has not accepted the request yet."""
        return self._state is State.PENDING

    def add(self, events: Sequence[ChatEvent]) -> list[Event]:
        """Add a batch of events."""
        return self._numbered(each for event in events for each in self._add(event))

    def complete(self) -> list[Event]:
        """End the response after the last batch."""
        return self._numbered(self._complete())

    def complete_without_output(self) -> list[Event]:
        """Start and end a response that has no output."""

        def events() -> Iterator[Event]:
            yield from self._start()
            self.response["completed_at"] = int(time.time())
            yield self._end("completed", "completed")

        return self._numbered(events())

    def fail(self, error: RequestError) -> list[Event]:
        """End the response with an error; its output so far remains, marked as incomplete."""
        return self._numbered(self._fail(error))

    def _numbered(self, events: Iterator[Event]) -> list[Event]:
        numbered = []
        for event in events:
            numbered.append({"type": event["type"], "sequence_number": self._sequence_number, **event})
            self._sequence_number += 1
        return numbered

    def _transition(self, action: Action) -> None:
        self._state = NEXT_STATE[self._state, action]

    def _add(self, event: ChatEvent) -> Iterator[Event]:
        match event:
            case Started():
                yield from self._start()
            case ChoiceDelta(_, parts, logprobs):
                self._logprobs += logprobs
                for part in parts:
                    yield from self._add_part(part)
            case ChoiceCompleted(_, reason):
                self._end_status = "incomplete" if reason == "length" else "completed"
            case OutputCompleted():
                self.response["usage"] = usage_json(event)
            case Progress():
                pass

    def _complete(self) -> Iterator[Event]:
        if not self.response["output"]:
            yield from self._open_item(MessageItem)
        yield from self._close_item(self._end_status)
        if self._end_status == "incomplete":
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self.response["completed_at"] = int(time.time())
        yield self._end(self._end_status, self._end_status)

    def _fail(self, error: RequestError) -> Iterator[Event]:
        if self._state is State.PENDING:
            yield from self._start()
        elif self._counts is not None:
            counts = self._counts
            known = OutputCompleted(counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens)
            self.response["usage"] = usage_json(known)
        yield from self._close_item("incomplete")
        if isinstance(error, ResponseCancelledError):
            # OpenAI has no event for cancelled responses; the response's status is "cancelled".
            yield self._end("incomplete", "cancelled")
        else:
            code = "invalid_prompt" if isinstance(error, InvalidRequestError) else "server_error"
            self.response["error"] = {"code": code, "message": error.message}
            yield self._end("failed", "failed")

    def _start(self) -> Iterator[Event]:
        self._transition("start")
        # Background responses are queued until here.
        self.response["status"] = "in_progress"
        for step in ("created", "in_progress"):
            yield {"type": f"response.{step}", "response": {**self.response, "output": []}}

    def _end(self, event: str, status: str) -> Event:
        self._transition("end")
        self.response["status"] = status
        return {"type": f"response.{event}", "response": self.response}

    def _add_part(self, part: VisiblePart) -> Iterator[Event]:
        match part:
            case Content(text):
                yield from self._add_text(MessageItem, text)
            case Reasoning(text):
                yield from self._add_text(self._reasoning_item, text)
            case ToolCall(name, arguments, _, id):
                yield from self._add_call(name, id, arguments, "completed")
            case ToolCallDelta(arguments, name, id, state):
                yield from self._add_call(name, id, arguments, state)

    def _add_text(self, kind: type[TextItem], text: str) -> Iterator[Event]:
        if not isinstance(self._item, kind):
            yield from self._close_item("completed")
            yield from self._open_item(kind)
        self._transition("add_text")
        logprobs, self._logprobs = self._logprobs, []
        assert isinstance(self._item, TextItem)
        yield self._item.add(text, logprobs)

    def _open_item(self, kind: type[TextItem]) -> Iterator[Event]:
        self._transition("open_item")
        self._item = kind(len(self.response["output"]))
        self.response["output"].append(self._item.item)
        yield from self._item.added()

    def _close_item(self, status: ItemStatus) -> Iterator[Event]:
        if self._item is not None:
            self._transition("close_item")
            item, self._item = self._item, None
            yield from item.done(status)

    def _add_call(
        self, name: str, id: str | None, arguments: str, state: Literal["in_progress", "completed", "incomplete"]
    ) -> Iterator[Event]:
        """Add arguments; a `name` begins a call, and a state other than "in_progress" ends it."""
        if name:
            yield from self._close_item("completed")
            self._transition("open_call")
            self._item = CallItem(len(self.response["output"]), self._catalog.origin(name), id)
            self.response["output"].append(self._item.item)
            yield self._item.added()
        assert isinstance(self._item, CallItem)
        if arguments:
            self._transition("add_text")
            yield from self._item.add(arguments)
        if state != "in_progress":
            yield from self._close_item(state)
