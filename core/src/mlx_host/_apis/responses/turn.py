"""Creates one response: the request is translated and submitted, and its output is built and stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlx_host._apis.responses.builder import ResponseBuilder
from mlx_host._apis.responses.event_log import EventLog
from mlx_host._apis.responses.items import Item
from mlx_host._apis.responses.request import TranslatedRequest, to_request
from mlx_host._apis.responses.response_object import new_response
from mlx_host._apis.responses.schema import InputBody, ResponsesBody
from mlx_host._apis.responses.service import ResponseService
from mlx_host._apis.responses.truncation import truncated
from mlx_host.api import Caller, ChatEvent, Deadline, Reply, Service
from mlx_host.api.http import InternalError, RetryingReply
from mlx_host.api.text import ignored_by_model
from mlx_host.errors import InvalidRequestError, ModelUnavailableError, RequestError
from mlx_host.requests import ChatRequest

log = logging.getLogger(__name__)

# The variables of the chat template by the fields that set each.
VARIABLES = {
    "reasoning_effort": ("reasoning.effort",),
    "enable_thinking": ("enable_thinking", "thinking.type"),
    "documents": ("documents",),
}
CALLS = ("function_call", "custom_tool_call", "tool_search_call", "mcp_call", "local_shell_call", "shell_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output")


@dataclass(frozen=True)
class Turn:
    """A submitted request: its reply, the builder of its response, and its input items after `history`."""

    reply: Reply[ChatEvent]
    builder: ResponseBuilder
    history: Sequence[Item]
    items: Sequence[Item]
    ignored: list[str]

    @property
    def conversation(self) -> list[Item]:
        """All items, including those of the output so far."""
        return [*self.history, *self.items, *self.builder.response["output"]]


def submit(
    service: Service,
    body: ResponsesBody,
    history: Sequence[Item],
    items: Sequence[Item],
    caller: Caller,
    deadline: Deadline,
) -> Turn:
    """Submit a request whose input is `items`, after `history`; raises RequestError if it is rejected at once."""
    if items and items[-1]["type"] == "compaction_trigger":
        # Not a part of the history, but a request for an item instead of an output.
        raise InvalidRequestError(
            f"input[{len(items) - 1}] is of type 'compaction_trigger', which is not supported; use POST "
            "/v1/responses/compact.",
            param="input",
        )
    translated = to_request(body, history, items, modalities(service, body, caller))
    reply = chat(service, translated, caller, deadline, truncate=body.truncation == "auto")
    prepared = reply.request
    assert isinstance(prepared, ChatRequest)
    builder = ResponseBuilder(
        new_response(body, prepared.id, reply.model),
        translated.catalog,
        encodes_reasoning=body.encodes_reasoning,
        counts=reply,
    )
    ignored = {
        *ignored_by_model(body, prepared, reply.model, VARIABLES, body.reasoning_limits()),
        *translated.ignored,
    }
    return Turn(reply, builder, history, items, sorted(ignored))


def modalities(service: Service, body: InputBody, caller: Caller) -> Collection[str] | None:
    """Return the kinds of input that the request's model accepts; None if they are not known."""
    capabilities = service.model(body.model or "", caller).capabilities
    return None if capabilities is None else capabilities.input_modalities


def chat(
    service: Service, translated: TranslatedRequest, caller: Caller, deadline: Deadline, *, truncate: bool = False
) -> Reply[ChatEvent]:
    """Submit a translated request; the model's errors refer to the fields of the API's request."""

    def submit(request: ChatRequest) -> Reply[ChatEvent]:
        return service.chat(request, caller=caller, deadline=deadline)

    conversation, request = translated.conversation, translated.chat
    reply = truncated(submit, request, conversation.keep) if truncate else submit(request)

    def translate(error: RequestError) -> None:
        conversation.translate(error)

    # Not to retry the request, but to translate its rejection.
    return RetryingReply(reply, translate)


def check_outputs(history: Sequence[Item], items: Sequence[Item]) -> None:
    """Raise InvalidRequestError if a new tool output has no matching call in a stored conversation.

    Input that is sent as a whole is not checked, because the client may have shortened it.
    """
    calls = {item.get("call_id") for item in (*history, *items) if item["type"] in CALLS}
    for number, item in enumerate(items):
        if item["type"] in OUTPUTS and item["call_id"] not in calls:
            raise InvalidRequestError(
                f"input[{number}].call_id: no call with id {item['call_id']!r} in the conversation. "
                "Use the call_id of a call in the previous response.",
                param="input",
                code="tool_call_not_found",
            )


async def run_in_background(turn: Turn, responses: ResponseService, events: EventLog) -> None:
    """Generate a response and store it with its events, even if it fails."""
    builder = turn.builder
    with responses.in_progress(builder, events):
        try:
            last = await _generate(turn, events)
        except asyncio.CancelledError:
            last = builder.fail(ModelUnavailableError("The server was shut down before the response was complete."))
            await _finish(turn, responses, events, last)
            raise
        except RequestError as error:
            last = builder.fail(error)
        except Exception:
            log.exception("unexpected error in background response %s", builder.id)
            last = builder.fail(InternalError("The server failed to process the request; see its log for details."))
        await _finish(turn, responses, events, last)


async def _generate(turn: Turn, events: EventLog) -> list[dict[str, object]]:
    async with turn.reply as reply:
        async for batch in reply:
            events.append(turn.builder.add(batch))
    return turn.builder.complete()


async def _finish(turn: Turn, responses: ResponseService, events: EventLog, last: list[dict[str, object]]) -> None:
    final = EventLog()
    final.append(last)
    # Before the last event, so that a client that has received it finds the response.
    await responses.store(turn.builder.response, turn.items, [*events.events, *final.events])
    events.append(last)
    events.close()
