"""respond(): one path from a reply to HTTP, for server-sent events, lines of JSON and bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import Request
from fastapi.responses import Response
from mlx_host.api.http import (
    NDJSON,
    SSE,
    ClientDisconnectError,
    Collector,
    Encoder,
    Framing,
    JsonResponse,
    Message,
    Messages,
    RawBytes,
    respond,
)
from mlx_host.api.responding import StreamResponse
from mlx_host.errors import QueueFullError, RequestError
from mlx_host.events import Progress

from tests.support.fake_service import ListedReply, Verbatim


class Client:
    """An ASGI client that records what it receives; `leave` disconnects it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False
        self._received = asyncio.Condition()
        self._left = asyncio.Event()

    async def run(self, reply: ListedReply, encoder: Encoder[Any]) -> None:
        await StreamResponse(reply, encoder, {})({"type": "http"}, self._receive, self._send)

    async def wait_for(self, part: bytes) -> None:
        async with self._received:
            await self._received.wait_for(lambda: part in self.body)

    def leave(self) -> None:
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        async with self._received:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                self.body += message["body"]
                self.is_complete = not message["more_body"]
            self._received.notify_all()


class FramedVerbatim(Verbatim):
    def __init__(self, framing: Framing) -> None:
        self.framing = framing


FRAMINGS = [SSE, NDJSON, RawBytes("audio/wav")]


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (SSE, b'data: {"a":1}\n\nevent: b\ndata: {"b":2}\n\n'),
        (NDJSON, b'{"a":1}\n{"b":2}\n'),
        (RawBytes("audio/wav"), b'{"a":1}{"b":2}'),
    ],
)
def test_messages_are_framed_in_the_format_of_the_encoder(framing: Framing, body: bytes) -> None:
    async def main() -> Client:
        client = Client()
        await client.run(ListedReply([['{"a":1}'], [Message('{"b":2}', event="b")]]), FramedVerbatim(framing))
        return client

    client = asyncio.run(main())
    assert (client.body, client.is_complete) == (body, True)
    assert client.headers["content-type"] == framing.media_type


@pytest.mark.parametrize("framing", FRAMINGS)
def test_error_before_the_first_byte_is_raised_for_its_own_status(framing: Framing) -> None:
    async def main() -> None:
        client, reply = Client(), ListedReply([[], QueueFullError("full")])
        with pytest.raises(QueueFullError):
            await client.run(reply, FramedVerbatim(framing))
        assert client.status == 0
        assert reply.left

    asyncio.run(main())


@pytest.mark.parametrize("error", [QueueFullError("full"), KeyError("a fault of ours")])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_error_after_the_first_byte_never_looks_like_success(framing: Framing, error: Exception) -> None:
    async def main() -> Client:
        client, reply = Client(), ListedReply([["x"], error])
        await client.run(reply, FramedVerbatim(framing))
        assert reply.left
        return client

    client = asyncio.run(main())
    if isinstance(framing, RawBytes):
        assert (client.body, client.is_complete) == (b"x", False)
    else:
        assert b'"error"' in client.body
        assert client.is_complete
        assert b"a fault of ours" not in client.body


def test_encoder_ends_a_failed_stream_in_its_own_format() -> None:
    class Own(Verbatim):
        async def fail(self, error: RequestError) -> Messages:
            return (Message(error.message, event="failed"),)

        async def finish(self) -> Messages:
            return ("the end",)

    async def main() -> bytes:
        client = Client()
        await client.run(ListedReply([["x"], QueueFullError("full")]), Own())
        return client.body

    assert asyncio.run(main()) == b"data: x\n\nevent: failed\ndata: full\n\n"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_client_that_disconnects_ends_the_reply(framing: Framing) -> None:
    async def main() -> None:
        client, never = Client(), asyncio.Event()
        reply = ListedReply([["x"], never])
        running = asyncio.ensure_future(client.run(reply, FramedVerbatim(framing)))
        await client.wait_for(b"x")
        client.leave()
        await running
        assert reply.left
        assert not client.is_complete

    asyncio.run(main())


@pytest.mark.parametrize("progress", [Progress("prefill", 3, 9), Progress("queued", 0), None])
def test_idle_stream_sends_comments_about_the_progress(progress: Progress | None) -> None:
    async def main() -> None:
        client, released = Client(), asyncio.Event()
        reply = ListedReply([released, ["x"]], keep_alive=0.01)
        reply.progress = progress
        running = asyncio.ensure_future(client.run(reply, Verbatim()))
        await client.wait_for(f": {progress or 'keep-alive'}\n\n".encode())
        assert client.status == 200
        released.set()
        await running
        assert client.body.endswith(b"data: x\n\n")

    asyncio.run(main())


class Watched(Framing):
    """A framing that records requests for comments."""

    def __init__(self, framing: Framing) -> None:
        self.media_type = framing.media_type
        self.asked = asyncio.Event()
        self._framing = framing

    def frame(self, message: Message | str | bytes) -> bytes:
        return self._framing.frame(message)

    def comment(self, text: str) -> bytes | None:
        self.asked.set()
        return self._framing.comment(text)


@pytest.mark.parametrize(("framing", "body"), [(NDJSON, b"x\n"), (RawBytes("audio/wav"), b"x")])
def test_formats_without_comments_stay_silent(framing: Framing, body: bytes) -> None:
    async def main() -> bytes:
        client, watched = Client(), Watched(framing)
        await client.run(ListedReply([watched.asked, ["x"]], keep_alive=0.001), FramedVerbatim(watched))
        return client.body

    assert asyncio.run(main()) == body


def test_warning_is_reported_before_the_end() -> None:
    class Ending(Verbatim):
        async def finish(self) -> Messages:
            return ("[DONE]",)

        def encode(self, events: Sequence[Any]) -> Messages:
            return events

    async def main() -> bytes:
        client, reply = Client(), ListedReply([["x"]])
        reply.warning = "unparsed\nmarkup"
        await client.run(reply, Ending())
        return client.body

    assert asyncio.run(main()) == b"data: x\n\n: x-mlx-host-warning: unparsed\\nmarkup\n\ndata: [DONE]\n\n"


class Joined(Collector[str]):
    """Joins the events; `fails_with` is its response to a request that fails."""

    def __init__(self, fails_with: str | None = None) -> None:
        self.events: list[str] = []
        self._fails_with = fails_with

    def add(self, events: Sequence[str]) -> None:
        self.events += events

    async def response(self) -> Response:
        return JsonResponse("".join(self.events))

    async def fail(self, error: RequestError) -> Response | None:
        return None if self._fails_with is None else JsonResponse(f"{self._fails_with}: {error.message}")


def test_collector_may_respond_to_a_request_that_fails() -> None:
    async def main() -> Response:
        http = Request({"type": "http"}, Client()._receive)
        with pytest.raises(QueueFullError):
            await respond(http, ListedReply([["x"], QueueFullError("full")]), Joined())
        return await respond(http, ListedReply([["x"], QueueFullError("full")]), Joined("cancelled"))

    assert bytes(asyncio.run(main()).body) == b'"cancelled: full"'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", ["completed", "failed", "rejected", "disconnected"])
def test_context_is_open_while_the_response_is_sent(stream: bool, ending: str) -> None:
    entered: list[bool] = []

    @contextmanager
    def during() -> Iterator[None]:
        entered.append(True)
        try:
            yield
        finally:
            entered.append(False)

    class Checking(Verbatim):
        async def finish(self) -> Messages:
            assert entered == [True]
            return ()

        async def fail(self, error: RequestError) -> Messages:
            assert entered == [True]
            return ("failed",)

    async def main() -> None:
        client, never = Client(), asyncio.Event()
        batches: dict[str, list[Any]] = {
            "completed": [["x"]],
            "failed": [["x"], QueueFullError("full")],
            "rejected": [QueueFullError("full")],
            "disconnected": [["x"], never],
        }
        reply = ListedReply(batches[ending])
        http = Request({"type": "http"}, client._receive)
        output = Checking() if stream else Joined()
        running = asyncio.ensure_future(respond(http, reply, output, during=during()))
        if stream:
            response = await running
            assert entered == []
            running = asyncio.ensure_future(response({"type": "http"}, client._receive, client._send))  # type: ignore[arg-type]
        if ending == "disconnected":
            while not (client.body or (isinstance(output, Joined) and output.events)):
                await asyncio.sleep(0)
            assert entered == [True]
            client.leave()
        raised = {
            ("rejected", True): QueueFullError,
            ("rejected", False): QueueFullError,
            ("failed", False): QueueFullError,
            ("disconnected", False): ClientDisconnectError,
        }.get((ending, stream))
        if raised is None:
            await running
        else:
            with pytest.raises(raised):
                await running
        assert entered == [True, False]

    asyncio.run(main())
