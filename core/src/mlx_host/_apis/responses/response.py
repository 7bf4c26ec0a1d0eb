"""OpenAI's response object and its events, out of an answer's events.

Response grows the object and says each step as an event; an answer that is not streamed is the object at the end. Each
item is added and done, one after another; text and reasoning are parts of items, added and done in turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

from mlx_host._apis.chat.response import logprobs_json
from mlx_host._apis.responses.input import new_id
from mlx_host._apis.responses.schema import ResponsesBody
from mlx_host._host import ChoiceDone, Delta, Done
from mlx_host._host.output_processor import AnswerEvent, Shown
from mlx_host.errors import InvalidRequest, RequestError
from mlx_host.events import Logprobs, Started
from mlx_host.parsing import Content, Reasoning, ToolCall

Event = dict[str, Any]
Ending = Literal["completed", "incomplete"]


class ResponseCancelled(RequestError):
    """Somebody asked for the response to be cancelled."""

    code = "cancelled"


def frame(body: ResponsesBody, id: str, model: str) -> dict[str, Any]:
    """The response before anything is said; what the request left open is null or OpenAI's default."""
    return {
        "id": id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": {"format": _format(body)},
        "tool_choice": body.tool_choice or "auto",
        "tools": [{"description": None, "parameters": None, "strict": None, **tool} for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
    }


def _format(body: ResponsesBody) -> dict[str, Any]:
    given = body.text.format if body.text is not None else None
    return {"type": "text"} if given is None else given.model_dump(by_alias=True, exclude_unset=True)


def usage(done: Done) -> dict[str, Any]:
    """OpenAI's usage object; the SDKs of one generation or another require each field."""
    return {
        "input_tokens": done.prompt_tokens,
        "input_tokens_details": {"cached_tokens": done.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": done.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": done.reasoning_tokens},
        "total_tokens": done.prompt_tokens + done.completion_tokens,
    }


class Response:
    """A response as it grows; `whole` is the object as it stands, `over` whether it will not change any more."""

    def __init__(self, frame: dict[str, Any]) -> None:
        self.id: str = frame["id"]
        self.whole = frame
        self.begun = self.over = False
        self.warning: str | None = None
        self._sequence = 0
        self._open: Text | None = None
        self._ending: Ending = "completed"
        # Those of text that the parser still holds.
        self._logprobs: tuple[Logprobs, ...] = ()

    def take(self, batch: list[AnswerEvent]) -> list[Event]:
        """Grow by a batch and say how."""
        return [self._numbered(event) for each in batch for event in self._take(each)]

    def fail(self, error: RequestError) -> list[Event]:
        """End because of an error; what has been said remains, marked incomplete."""
        if isinstance(error, ResponseCancelled):
            # There is no event of this name; the response says how it is.
            ending = ("incomplete", "cancelled")
        else:
            ending = ("failed", "failed")
            code = "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"
            self.whole["error"] = {"code": code, "message": error.message}
        return [self._numbered(event) for event in (*self._close("incomplete"), self._end(*ending))]

    def _numbered(self, event: Event) -> Event:
        self._sequence += 1
        return {"type": event["type"], "sequence_number": self._sequence - 1, **event}

    def _take(self, event: AnswerEvent) -> Iterator[Event]:
        match event:
            case Started():
                self.begun = True
                for step in ("created", "in_progress"):
                    # Whoever reads this later must not see what the object has become.
                    yield {"type": f"response.{step}", "response": {**self.whole, "output": []}}
            case Delta(_, parts, logprobs):
                self._logprobs += logprobs
                for part in parts:
                    yield from self._add(part)
            case ChoiceDone(_, reason):
                self._ending = "incomplete" if reason == "length" else "completed"
            case Done():
                if not self.whole["output"]:
                    yield from self._open_text(Message)
                yield from self._close(self._ending)
                self.whole["usage"] = usage(event)
                self.warning = event.warning
                if self._ending == "incomplete":
                    self.whole["incomplete_details"] = {"reason": "max_output_tokens"}
                yield self._end(self._ending, self._ending)

    def _end(self, event: str, status: str) -> Event:
        self.over = True
        self.whole["status"] = status
        if status == "completed":
            self.whole["completed_at"] = int(time.time())
        return {"type": f"response.{event}", "response": self.whole}

    def _add(self, part: Shown) -> Iterator[Event]:
        match part:
            case Content(text):
                yield from self._open_text(Message)
                yield from self._say(text)
            case Reasoning(text):
                yield from self._open_text(Thoughts)
                yield from self._say(text)
            case ToolCall():
                yield from self._close("completed")
                yield from self._call(part)

    def _say(self, text: str) -> Iterator[Event]:
        assert self._open is not None
        logprobs, self._logprobs = self._logprobs, ()
        yield self._open.say(text, logprobs)

    def _open_text(self, kind: type[Text]) -> Iterator[Event]:
        if isinstance(self._open, kind):
            return
        yield from self._close("completed")
        self._open = kind(len(self.whole["output"]))
        self.whole["output"].append(self._open.item)
        yield from self._open.added()

    def _close(self, status: Ending) -> Iterator[Event]:
        if self._open is not None:
            yield from self._open.done(status)
            self._open = None

    def _call(self, call: ToolCall) -> Iterator[Event]:
        self._logprobs = ()
        place = {"output_index": len(self.whole["output"])}
        item = {
            "type": "function_call",
            "id": new_id("fc"),
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        self.whole["output"].append(item)
        of = {"item_id": item["id"], **place}
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield {"type": "response.output_item.added", **place, "item": begun}
        yield {"type": "response.function_call_arguments.delta", **of, "delta": call.arguments}
        whole = {"name": call.name, "arguments": call.arguments}
        yield {"type": "response.function_call_arguments.done", **of, **whole}
        yield {"type": "response.output_item.done", **place, "item": item}


class Text:
    """An item with one part of text, and its events."""

    prefix: str
    event: str

    def __init__(self, output_index: int) -> None:
        self.item: dict[str, Any] = self.make(new_id(self.prefix))
        self._place = {"output_index": output_index}
        self._of = {"item_id": self.item["id"], "output_index": output_index, "content_index": 0}
        self._pieces: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def make(self, id: str) -> dict[str, Any]:
        """The item, without its part."""
        raise NotImplementedError

    def part(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        """The part of the item."""
        raise NotImplementedError

    def beside(self, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        """What events about the text have beside it."""
        return {}

    def added(self) -> Iterator[Event]:
        yield {"type": "response.output_item.added", **self._place, "item": {**self.item, "content": []}}
        yield {"type": "response.content_part.added", **self._of, "part": self.part("", [])}

    def say(self, text: str, logprobs: tuple[Logprobs, ...]) -> Event:
        written = logprobs_json(logprobs)["content"] if logprobs else []
        self._pieces.append(text)
        self._logprobs += written
        return {"type": f"response.{self.event}.delta", **self._of, "delta": text, **self.beside(written)}

    def done(self, status: Ending) -> Iterator[Event]:
        text = "".join(self._pieces)
        part = self.part(text, self._logprobs)
        self.item["content"].append(part)
        self.item["status"] = status
        yield {"type": f"response.{self.event}.done", **self._of, "text": text, **self.beside(self._logprobs)}
        yield {"type": "response.content_part.done", **self._of, "part": part}
        yield {"type": "response.output_item.done", **self._place, "item": self.item}


class Message(Text):
    prefix = "msg"
    event = "output_text"

    def make(self, id: str) -> dict[str, Any]:
        return {"type": "message", "id": id, "role": "assistant", "content": [], "status": "in_progress"}

    def part(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def beside(self, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"logprobs": logprobs}


class Thoughts(Text):
    prefix = "rs"
    event = "reasoning_text"

    def make(self, id: str) -> dict[str, Any]:
        return {"type": "reasoning", "id": id, "summary": [], "content": [], "status": "in_progress"}

    def part(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": text}
