"""Responses over WebSocket: each `response.create` frame starts a response, whose events are text frames.

Source: the WebSocket transport of Open Responses, and `types/responses/responses_client_event.py` of the OpenAI SDK.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from mlx_host._apis.responses.builder import ResponseBuilder
from mlx_host._apis.responses.items import Item, new_id
from mlx_host._apis.responses.response import ResponseEncoder
from mlx_host._apis.responses.response_object import new_response, usage_json
from mlx_host._apis.responses.schema import ResponsesBody
from mlx_host._apis.responses.service import ResponseService
from mlx_host._apis.responses.turn import check_outputs, submit
from mlx_host.api import Caller, Deadline, OutputCompleted, Service
from mlx_host.api.http import (
    ClientDisconnectError,
    FrameReader,
    InternalError,
    dumps,
    frame_text,
    loads,
    openai_body,
    send_reply,
    validation_error,
)
from mlx_host.errors import InvalidRequestError, RequestError

log = logging.getLogger(__name__)

FAILED = "The server failed to process the frame; see its log for details."
# Seconds after which a connection is closed, as by OpenAI.
MAX_SECONDS = 3600.0
# Fields of the body that have no meaning here: every response is streamed.
TRANSPORT_FIELDS = ("stream", "stream_options")


class ConnectionLimitReachedError(InvalidRequestError):
    """The connection has reached its maximum age."""

    code = "websocket_connection_limit_reached"


class ResponsesConnection:
    """One WebSocket connection. It keeps the last response, so that the next one can continue it without a store."""

    def __init__(
        self,
        socket: WebSocket,
        service: Service,
        responses: ResponseService,
        caller: Caller,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        self._socket = socket
        self._service = service
        self._responses = responses
        self._caller = caller
        self._max_seconds = max_seconds
        self._last: tuple[str, list[Item]] | None = None

    async def serve(self) -> None:
        """Accept the connection, and create responses until it is closed."""
        await self._socket.accept()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._max_seconds
        async with FrameReader(self._socket) as frames:
            try:
                while (frame := await frames.next(max(0.0, end - loop.time()))) is not None:
                    await frames.while_connected(self._handle(frame))
            except TimeoutError:
                limit = f"The connection has reached its limit of {self._max_seconds / 60:g} minutes; open a new one."
                await self._send_error(ConnectionLimitReachedError(limit), None)
                await self._socket.close()
            except (ClientDisconnectError, WebSocketDisconnect):
                pass
            else:
                if frames.is_shutting_down:
                    await self._socket.close(1001, "The server is shutting down.")

    async def _handle(self, frame: str) -> None:
        stream_id: Any = None
        previous: Any = None
        try:
            fields = loads(frame.encode(errors="replace"), "The frame")
            if not isinstance(fields, dict):
                raise InvalidRequestError("The frame is not a JSON object.")
            stream_id, previous = fields.get("stream_id"), fields.get("previous_response_id")
            await self._create(fields, stream_id)
        except WebSocketDisconnect:
            raise
        except Exception as raised:
            if not isinstance(raised, RequestError):
                log.exception("unexpected error in a WebSocket frame")
            error = raised if isinstance(raised, RequestError) else InternalError(FAILED)
            # The conversation that a failed turn continues may be incomplete on the client's side.
            if self._last is not None and previous == self._last[0]:
                self._last = None
            await self._send_error(error, stream_id)

    async def _create(self, fields: dict[str, Any], stream_id: Any) -> None:
        if fields.get("type") != "response.create":
            raise InvalidRequestError(f"type must be 'response.create', got {fields.get('type')!r}.", param="type")
        given = {name: value for name, value in fields.items() if name not in (*TRANSPORT_FIELDS, "type", "stream_id")}
        generate = given.pop("generate", None)
        try:
            body = ResponsesBody.model_validate({**given, "stream": True})
        except ValidationError as error:
            raise validation_error(error.errors()) from None
        if body.background:
            raise InvalidRequestError("background is not supported over WebSocket; use HTTP.", param="background")
        if self._last is not None and body.previous_response_id == self._last[0]:
            history, items = self._last[1], await self._responses.normalize(body.input)
        else:
            history, items = await self._responses.read(body)
        if body.previous_response_id:
            check_outputs(history, items)
        if generate is False:
            await self._prepare(body, history, items, stream_id)
            return
        turn = submit(self._service, body, history, items, self._caller, Deadline.FIRST_OUTPUT)
        builder = turn.builder
        with self._responses.in_progress(builder):
            await send_reply(
                lambda text: self._send(text, stream_id),
                turn.reply,
                ResponseEncoder(builder, items, self._responses),
            )
        self._remember(builder, turn.conversation, body)

    async def _prepare(self, body: ResponsesBody, history: list[Item], items: list[Item], stream_id: Any) -> None:
        """Send a response without output, from which the next one can continue."""
        model = self._service.model(body.model or "", self._caller)
        builder = ResponseBuilder(new_response(body, new_id("resp"), model))
        builder.response["usage"] = usage_json(OutputCompleted(0, 0, 0))
        events = builder.complete_without_output()
        await self._responses.store(builder.response, items)
        for event in events:
            await self._send(dumps(event), stream_id)
        self._remember(builder, [*history, *items], body)

    def _remember(self, builder: ResponseBuilder, conversation: list[Item], body: ResponsesBody) -> None:
        if builder.response["status"] in ("completed", "incomplete"):
            self._last = builder.id, conversation
        elif self._last is not None and body.previous_response_id == self._last[0]:
            self._last = None

    async def _send_error(self, error: RequestError, stream_id: Any) -> None:
        await self._send(dumps({"type": "error", "status": error.status, **openai_body(error)}), stream_id)

    async def _send(self, text: str, stream_id: Any) -> None:
        if isinstance(stream_id, str):
            text = f'{text[:-1]},"stream_id":{dumps(stream_id)}}}'
        await self._socket.send_text(frame_text(text))
