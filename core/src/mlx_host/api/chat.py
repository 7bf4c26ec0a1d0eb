"""POST /v1/chat/completions: OpenAI's request in, a stream of events, OpenAI's answer or chunks out."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from mlx_host.api import sse
from mlx_host.api.chat_schema import ChatBody, NamedToolChoice
from mlx_host.errors import InvalidRequest
from mlx_host.events import Logprobs, TokenLogprob
from mlx_host.host import ChoiceDone, Delta, Done, Host
from mlx_host.host.answer import AnswerEvent, Shown
from mlx_host.parsing import Content, Reasoning, ToolCall
from mlx_host.requests import ChatRequest, Priority, Sampling

PRIORITIES = {"flex": Priority.LOW, "priority": Priority.HIGH, "fast": Priority.HIGH}
SAMPLING = tuple(name for name in Sampling.__dataclass_fields__ if name != "logit_bias")
MOST_STOPS = 16


def to_request(body: ChatBody) -> ChatRequest:
    """Translate a body; InvalidRequest names what cannot be honoured."""
    if body.response_format is not None and body.response_format.type != "text":
        raise InvalidRequest(
            f"response_format {body.response_format.type!r} is not supported by this server; 'text' is.",
            param="response_format",
        )
    choice = body.tool_choice or "auto"
    if isinstance(choice, NamedToolChoice) or choice == "required":
        raise InvalidRequest(
            "tool_choice cannot force a call here; 'auto' and 'none' are supported.", param="tool_choice"
        )
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stops) > MOST_STOPS:
        raise InvalidRequest(f"stop: at most {MOST_STOPS} strings, got {len(stops)}.", param="stop")
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    template_kwargs = dict(body.chat_template_kwargs or {})
    for name in ("reasoning_effort", "enable_thinking"):
        if (value := getattr(body, name)) is not None:
            template_kwargs.setdefault(name, value)
    return ChatRequest(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        model=body.model,
        priority=PRIORITIES.get(body.service_tier or "", Priority.NORMAL),
        messages=[_message(dict(message)) for message in body.messages],
        tools=() if choice == "none" else [tool.model_dump(exclude_unset=True) for tool in body.tools or ()],
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        sampling=Sampling(
            **{name: value for name in SAMPLING if (value := getattr(body, name)) is not None},
            logit_bias=_logit_bias(body.logit_bias or {}),
        ),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=tuple(stop for stop in stops if stop),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        n=body.n or 1,
        template_kwargs=template_kwargs,
    )


def _message(message: dict[str, Any]) -> dict[str, Any]:
    # Clients send the SDK's own answers back, with null for all that an answer did not have.
    kept = {key: value for key, value in message.items() if value is not None or key == "content"}
    if kept["role"] == "developer":
        kept["role"] = "system"
    return kept


def _logit_bias(given: dict[str, float]) -> dict[int, float]:
    try:
        return {int(token): bias for token, bias in given.items()}
    except ValueError:
        raise InvalidRequest("logit_bias: the keys must be token ids.", param="logit_bias") from None


class Frame:
    """What every piece of one answer has in common."""

    def __init__(self, request: ChatRequest, model: str) -> None:
        self.id = request.id
        self.model = model
        self.created = int(time.time())

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return self._wrap("chat.completion", choices) | {"usage": usage}

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._wrap("chat.completion.chunk", choices) | {"usage": usage}

    def _wrap(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def usage(done: Done) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "total_tokens": done.prompt_tokens + done.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": done.cached_tokens},
    }


def logprobs_json(logprobs: tuple[Logprobs, ...]) -> dict[str, Any]:
    """OpenAI's logprobs object."""

    def token(entry: TokenLogprob) -> dict[str, Any]:
        return {"token": entry.token, "logprob": entry.logprob, "bytes": list(entry.bytes)}

    content = [{**token(each.chosen), "top_logprobs": [token(top) for top in each.top]} for each in logprobs]
    return {"content": content, "refusal": None}


async def collect(batches: AsyncIterator[list[AnswerEvent]], frame: Frame, n: int) -> dict[str, Any]:
    """Add the stream up to one answer."""
    messages = [_Message() for _ in range(n)]
    done = Done(0, 0, 0)
    async for batch in batches:
        for event in batch:
            match event:
                case Delta(choice):
                    messages[choice].add(event)
                case ChoiceDone(choice, reason):
                    messages[choice].finish_reason = reason
                case Done():
                    done = event
    return frame.whole([message.choice(index) for index, message in enumerate(messages)], usage(done))


class _Message:
    """One choice of an answer that is not streamed."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._logprobs: tuple[Logprobs, ...] | None = None

    def add(self, delta: Delta) -> None:
        for part in delta.parts:
            match part:
                case Content(text):
                    self._content.append(text)
                case Reasoning(text):
                    self._reasoning.append(text)
                case ToolCall(name, arguments, _, id):
                    call = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                    self._calls.append(call)
        if delta.logprobs:
            self._logprobs = (self._logprobs or ()) + delta.logprobs

    def choice(self, index: int) -> dict[str, Any]:
        content = "".join(self._content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content if content or not (self._calls or self._reasoning) else None,
            "refusal": None,
        }
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = self._calls
        logprobs = logprobs_json(self._logprobs) if self._logprobs is not None else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason}


class Chunks:
    """Writes an answer's events as chunks: the role first, the finish reason last, calls numbered."""

    def __init__(self, frame: Frame, n: int, include_usage: bool) -> None:
        self._frame = frame
        self._n = n
        self._include_usage = include_usage
        self._calls = [0] * n

    def opening(self) -> bytes:
        """The role of each choice, said once."""
        return b"".join(self._write(index, {"role": "assistant", "content": ""}) for index in range(self._n))

    def write(self, batch: list[AnswerEvent]) -> bytes:
        """Write a batch; what arrived together goes out together."""
        out: list[bytes] = []
        for event in batch:
            match event:
                case Delta(choice, parts, logprobs):
                    deltas = [delta for part in parts for delta in self._deltas(choice, part)] or [{"content": ""}]
                    for number, delta in enumerate(deltas):
                        out.append(self._write(choice, delta, logprobs=logprobs if number == 0 else ()))
                case ChoiceDone(choice, reason):
                    out.append(self._write(choice, {}, reason))
                case Done() if self._include_usage:
                    out.append(sse.encode(self._frame.chunk([], usage(event))))
        return b"".join(out)

    def _deltas(self, choice: int, part: Shown) -> Iterator[dict[str, Any]]:
        match part:
            case Content(text):
                yield {"content": text}
            case Reasoning(text):
                yield {"reasoning_content": text}
            case ToolCall(name, arguments, _, id):
                index = self._calls[choice]
                self._calls[choice] += 1
                function = {"name": name, "arguments": ""}
                yield {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}
                yield {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}

    def _write(
        self,
        index: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: tuple[Logprobs, ...] = (),
    ) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs_json(logprobs) if logprobs else None,
            "finish_reason": finish_reason,
        }
        return sse.encode(self._frame.chunk([choice]))


async def _streamed(
    first: list[AnswerEvent], batches: AsyncGenerator[list[AnswerEvent], None], chunks: Chunks
) -> AsyncGenerator[bytes, None]:
    async with aclosing(batches):
        yield chunks.opening() + chunks.write(first)
        async for batch in batches:
            if piece := chunks.write(batch):
                yield piece
        yield sse.DONE


def routes(router: APIRouter, host: Host) -> None:
    """Add the endpoint."""

    @router.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatBody, http: Request) -> Response:
        request = to_request(body)
        frame = Frame(request, host.model(request.model).name)
        ignored = body.ignored()
        headers = {"x-mlx-host-ignored": ", ".join(ignored)} if ignored else {}
        streams = body.stream is True
        batches = host.chat(request, streams=streams)
        if not streams:
            async with aclosing(batches):
                whole = await sse.while_connected(http, collect(batches, frame, request.n))
            return JSONResponse(whole, headers=headers)
        # The first event tells whether the request is accepted; until then there is a status to refuse it with.
        try:
            first = await sse.while_connected(http, anext(batches))
        except BaseException:
            await batches.aclose()
            raise
        chunks = Chunks(frame, request.n, bool(body.stream_options and body.stream_options.include_usage))
        return sse.stream(_streamed(first, batches, chunks), headers)
