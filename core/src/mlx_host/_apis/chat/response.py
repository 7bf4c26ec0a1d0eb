"""OpenAI's chat completion, whole or in chunks, out of an answer's events."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from mlx_host._host import ChoiceDone, Delta, Done
from mlx_host._host.output_processor import AnswerEvent, Shown
from mlx_host.api import json_io, sse
from mlx_host.events import Logprobs, Progress, TokenLogprob
from mlx_host.parsing import Content, Reasoning, ToolCall
from mlx_host.requests import ChatRequest

# What OpenAI writes for a token that is as good as impossible; JSON has no infinity.
LEAST_LOGPROB = -9999.0


class Frame:
    """What every piece of one answer has in common."""

    def __init__(self, request: ChatRequest, model: str) -> None:
        self.id = request.id
        self.model = model
        self.created = int(time.time())

    def of(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(done: Done) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "total_tokens": done.prompt_tokens + done.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": done.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": done.reasoning_tokens},
    }


def logprobs_json(logprobs: tuple[Logprobs, ...]) -> dict[str, Any]:
    """OpenAI's logprobs object."""

    def token(entry: TokenLogprob) -> dict[str, Any]:
        value = LEAST_LOGPROB if math.isnan(entry.logprob) else max(entry.logprob, LEAST_LOGPROB)
        return {"token": entry.token, "logprob": value, "bytes": list(entry.bytes)}

    content = [{**token(each.chosen), "top_logprobs": [token(top) for top in each.top]} for each in logprobs]
    return {"content": content, "refusal": None}


async def collect(
    batches: AsyncIterator[list[AnswerEvent]], frame: Frame, n: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Add the stream up to one answer and its headers."""
    messages = [Message() for _ in range(n)]
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
    choices = [message.choice(index) for index, message in enumerate(messages)]
    return frame.of("chat.completion") | {"choices": choices, "usage": usage(done)}, warning_header(done.warning)


def plain(warning: str) -> str:
    """Write a warning so that it fits a header or a comment: some tags are not ASCII, some hold newlines."""
    return warning.encode("ascii", "backslashreplace").decode().replace("\n", "\\n")


class Message:
    """One choice of an answer that is not streamed."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[Logprobs] = []

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
        self._logprobs += delta.logprobs

    def choice(self, index: int) -> dict[str, Any]:
        content = "".join(self._content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if self._calls and not content else content,
            "refusal": None,
        }
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = self._calls
        logprobs = logprobs_json(tuple(self._logprobs)) if self._logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason}


class Chunks:
    """Writes an answer's events as chunks: the role first, the finish reason last, calls numbered.

    What is the same in every chunk is written once; a piece of text costs little more than its own escaping.
    """

    def __init__(self, frame: Frame, n: int, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._n = n
        self._calls = [0] * n
        self._head = f"data: {json_io.dumps(frame.of('chat.completion.chunk'))[:-1]}"
        self._heads = [f'{self._head},"choices":[{{"index":{index},"delta":' for index in range(n)]
        self._end = '}],"usage":null}\n\n' if include_usage else "}]}\n\n"
        self._plain = f',"logprobs":null,"finish_reason":null{self._end}'

    def opening(self) -> str:
        """The role of each choice, said once."""
        return "".join(f'{head}{{"role":"assistant","content":""}}{self._plain}' for head in self._heads)

    def write(self, batch: list[AnswerEvent]) -> str:
        """Write a batch; what arrived together goes out together."""
        out: list[str] = []
        for event in batch:
            match event:
                case Delta(choice, [Content(text)], ()):
                    out.append(f'{self._heads[choice]}{{"content":{json_io.dumps(text)}}}{self._plain}')
                case Delta(choice, parts, logprobs):
                    deltas = [delta for part in parts for delta in self._deltas(choice, part)] or [{"content": ""}]
                    for number, delta in enumerate(deltas):
                        out.append(self._write(choice, delta, logprobs=logprobs if number == 0 else ()))
                case ChoiceDone(choice, reason):
                    out.append(self._write(choice, {}, reason))
                case Done():
                    if self._include_usage:
                        out.append(f'{self._head},"choices":[],"usage":{json_io.dumps(usage(event))}}}\n\n')
                    out.append(warning_comment(event.warning))
                    out.append(sse.DONE)
        return "".join(out)

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
        choice: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: tuple[Logprobs, ...] = (),
    ) -> str:
        said = json_io.dumps(logprobs_json(logprobs)) if logprobs else "null"
        reason = json_io.dumps(finish_reason)
        return f'{self._heads[choice]}{json_io.dumps(delta)},"logprobs":{said},"finish_reason":{reason}{self._end}'


async def stream(batches: AsyncGenerator[list[AnswerEvent], None], chunks: Chunks) -> sse.Pieces:
    """Write an answer as it comes: the role once the request is accepted, then chunk by chunk to [DONE]."""
    opening = chunks.opening()
    async with aclosing(batches):
        async for batch in batches:
            yield opening + chunks.write(batch)
            opening = ""
            yield sign_of_life(batch)


def sign_of_life(batch: list[AnswerEvent]) -> sse.Comment:
    """What a stream says when nothing follows this batch for long."""
    last = batch[-1]
    return sse.Comment(f"prefill {last.done}/{last.total}" if isinstance(last, Progress) else "keep-alive")


def warning_header(warning: str | None) -> dict[str, str]:
    """Make the header that warns of what no parser has read."""
    return {"x-mlx-host-warning": plain(warning)} if warning else {}


def warning_comment(warning: str | None) -> str:
    """Write the comment that warns of what no parser has read."""
    return f": x-mlx-host-warning: {plain(warning)}\n\n" if warning else ""
