"""Builds OpenAI's chat completions, plain or as chunks, from the events of a chat reply.

Source: the OpenAI SDK's `types/chat/chat_completion.py` and `chat_completion_chunk.py`.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from typing import Any

from fastapi.responses import Response

from mlx_host.api import ChatEvent, ChoiceCompleted, ChoiceDelta, OutputCompleted, Reply, VisiblePart
from mlx_host.api.custom_tools import custom_input
from mlx_host.api.http import Collector, Encoder, JsonResponse, dumps
from mlx_host.api.text import StreamOptions, logprobs_json, usage_json, usage_so_far
from mlx_host.events import Logprobs, Started
from mlx_host.parsing import Content, Reasoning, ToolCall, ToolCallDelta
from mlx_host.requests import ChatRequest

DONE = "[DONE]"


class Envelope:
    """The fields that all objects of one response share."""

    def __init__(self, reply: Reply[ChatEvent]) -> None:
        self.id = reply.request.id
        self.model = reply.model.name
        self.created = int(time.time())

    def json(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def choice_count(reply: Reply[ChatEvent]) -> int:
    """Return the number of choices of the prepared request, which a plugin may have changed."""
    assert isinstance(reply.request, ChatRequest)
    return reply.request.n


def call_json(call: ToolCall, custom: Container[str]) -> dict[str, Any]:
    """Return a tool call; `custom` are the names of the custom tools, which take free text."""
    if call.name in custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": custom_input(call.arguments)}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class ChoiceBuilder:
    """Builds one choice of a non-streaming response; `custom` are the names of the custom tools."""

    def __init__(self, custom: Container[str] = ()) -> None:
        self._custom = custom
        self.finish_reason: str | None = None
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[Logprobs] = []

    def add(self, delta: ChoiceDelta) -> None:
        for part in delta.parts:
            match part:
                case Content(text):
                    self._content.append(text)
                case Reasoning(text):
                    self._reasoning.append(text)
                case ToolCall():
                    self._calls.append(call_json(part, self._custom))
        self._logprobs += delta.logprobs

    def json(self, index: int) -> dict[str, Any]:
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
        logprobs = logprobs_json(self._logprobs) if self._logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason}


class CompletionCollector(Collector[ChatEvent]):
    """Builds a plain chat completion."""

    def __init__(self, reply: Reply[ChatEvent], custom: Container[str] = ()) -> None:
        self._envelope = Envelope(reply)
        self._choices = [ChoiceBuilder(custom) for _ in range(choice_count(reply))]
        self._usage = OutputCompleted(0, 0, 0)

    def add(self, events: Sequence[ChatEvent]) -> None:
        for event in events:
            match event:
                case ChoiceDelta(choice):
                    self._choices[choice].add(event)
                case ChoiceCompleted(choice, reason):
                    self._choices[choice].finish_reason = reason
                case OutputCompleted():
                    self._usage = event

    async def response(self) -> Response:
        choices = [choice.json(index) for index, choice in enumerate(self._choices)]
        return JsonResponse(
            self._envelope.json("chat.completion") | {"choices": choices, "usage": usage_json(self._usage)}
        )


class ChunkEncoder(Encoder[ChatEvent]):
    """Encodes a chat reply as chunks: the role first, the finish reason last, tool calls numbered.

    The JSON that all chunks share is serialized once: only the text is serialized for each chunk.
    """

    def __init__(self, reply: Reply[ChatEvent], options: StreamOptions, custom: Container[str] = ()) -> None:
        self._custom = custom
        n = choice_count(reply)
        self._reply = reply
        self._include_usage = include_usage = options.include_usage is True
        self._continuous_usage = include_usage and options.continuous_usage_stats is True
        self._calls = [0] * n
        # The fragments of the current call's arguments, if it is a call to a custom tool.
        self._input: list[list[str] | None] = [None] * n
        self._head = dumps(Envelope(reply).json("chat.completion.chunk"))[:-1]
        self._heads = [f'{self._head},"choices":[{{"index":{index},"delta":' for index in range(n)]
        self._set_end('}],"usage":null}' if include_usage else "}]}")

    def _set_end(self, end: str) -> None:
        self._end = end
        self._plain = f',"logprobs":null,"finish_reason":null{end}'

    def encode(self, events: Sequence[ChatEvent]) -> list[str]:
        out: list[str] = []
        if self._continuous_usage:
            self._set_end(f'}}],"usage":{dumps(usage_so_far(self._reply))}}}')
        for event in events:
            match event:
                case ChoiceDelta(choice, [Content(text)], ()):
                    out.append(f'{self._heads[choice]}{{"content":{dumps(text)}}}{self._plain}')
                case ChoiceDelta(choice, parts, logprobs):
                    deltas = [delta for part in parts for delta in self._deltas(choice, part)]
                    if not parts:
                        # Log-probabilities of tokens without text.
                        deltas = [{"content": ""}]
                    for number, delta in enumerate(deltas):
                        out.append(self._chunk(choice, delta, logprobs=logprobs if number == 0 else ()))
                case ChoiceCompleted(choice, reason):
                    out.append(self._chunk(choice, {}, reason))
                case OutputCompleted():
                    if self._include_usage:
                        out.append(f'{self._head},"choices":[],"usage":{dumps(usage_json(event))}}}')
                case Started():
                    out += [f'{head}{{"role":"assistant","content":""}}{self._plain}' for head in self._heads]
        return out

    async def finish(self) -> list[str]:
        return [DONE]

    def _deltas(self, choice: int, part: VisiblePart) -> Iterator[dict[str, Any]]:
        match part:
            case Content(text):
                yield {"content": text}
            case Reasoning(text):
                yield {"reasoning_content": text}
            case ToolCall(name, arguments, _, id):
                yield from self._call_deltas(choice, name, id, arguments, complete=True)
            case ToolCallDelta(arguments, name, id, state):
                yield from self._call_deltas(choice, name, id, arguments, complete=state != "in_progress")

    def _call_deltas(
        self, choice: int, name: str, id: str | None, arguments: str, *, complete: bool
    ) -> Iterator[dict[str, Any]]:
        """Encode arguments; a `name` begins a call. The input of a custom tool is sent when the call is complete."""
        if name:
            self._calls[choice] += 1
            self._input[choice] = [] if name in self._custom else None
            kind, field = ("custom", "input") if name in self._custom else ("function", "arguments")
            call = {"index": self._calls[choice] - 1, "id": id, "type": kind, kind: {"name": name, field: ""}}
            yield {"tool_calls": [call]}
        index, fragments = self._calls[choice] - 1, self._input[choice]
        if fragments is not None:
            fragments.append(arguments)
            if complete:
                yield {"tool_calls": [{"index": index, "custom": {"input": custom_input("".join(fragments))}}]}
        elif arguments:
            yield {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}

    def _chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: tuple[Logprobs, ...] = (),
    ) -> str:
        logprobs_text = dumps(logprobs_json(logprobs)) if logprobs else "null"
        reason = dumps(finish_reason)
        return f'{self._heads[choice]}{dumps(delta)},"logprobs":{logprobs_text},"finish_reason":{reason}{self._end}'
