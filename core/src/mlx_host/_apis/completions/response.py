"""Builds OpenAI's legacy completions, as one object or as chunks; their text is not parsed."""

from __future__ import annotations

import codecs
import math
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from fastapi.responses import Response

from mlx_host.api import OutputCompleted, Reply
from mlx_host.api.http import Collector, Encoder, JsonResponse, dumps
from mlx_host.api.text import StreamOptions, finite, usage_json, usage_so_far
from mlx_host.events import ChoiceFinished, Event, Finished, Logprobs, PromptEcho, StopReason, TextDelta, TokenLogprob
from mlx_host.requests import CompletionRequest

NumberedEvent = tuple[int, Event]
CompletionReply = Reply[NumberedEvent]


def grouped(events: Sequence[NumberedEvent]) -> Iterator[tuple[int, list[Event]]]:
    """Group consecutive events by the index of their prompt."""
    for number, group in groupby(events, itemgetter(0)):
        yield number, [event for _, event in group]


def token_text(token: TokenLogprob) -> str:
    """Return a token in OpenAI's format, in which a token that is not valid UTF-8 is given as its bytes."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


class Offsets:
    """Computes the offset of each token in the text of a choice, in characters."""

    def __init__(self) -> None:
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def advance(self, token: TokenLogprob) -> int:
        """Return the offset of the next token."""
        offset = self._offset
        self._offset += len(self._decoder.decode(token.bytes))
        return offset


class CompletionChoice:
    """Builds the JSON of one choice, in pieces."""

    def __init__(self, index: int, with_logprobs: bool) -> None:
        self.index = index
        self.reason: StopReason | None = None
        self.logprobs: list[float] = []
        self._with_logprobs = with_logprobs
        self._offsets = Offsets()

    def delta(
        self, text: str, logprobs: tuple[Logprobs, ...] = (), reason: StopReason | None = None, *, starts: bool = False
    ) -> dict[str, Any]:
        """Return new output; with `starts`, its first token is the first of the prompt and has no log-probability."""
        self.reason = reason
        logprobs_json = self._logprobs_json(logprobs, starts) if logprobs and self._with_logprobs else None
        return {"text": text, "index": self.index, "logprobs": logprobs_json, "finish_reason": reason}

    def _logprobs_json(self, logprobs: tuple[Logprobs, ...], starts: bool) -> dict[str, Any]:
        tops: list[dict[str, float] | None] = [
            {token_text(token): finite(token.logprob) for token in (each.chosen, *each.top)} for each in logprobs
        ]
        values: list[float | None] = [finite(each.chosen.logprob) for each in logprobs]
        if starts:
            tops[0] = values[0] = None
        return {
            "tokens": [token_text(each.chosen) for each in logprobs],
            "token_logprobs": values,
            "top_logprobs": tops,
            "text_offset": [self._offsets.advance(each.chosen) for each in logprobs],
        }


class PromptOutput:
    """The `n` choices of one prompt; `first` is the index of the first one in the response."""

    def __init__(self, first: int, n: int, with_logprobs: bool) -> None:
        self.choices = [CompletionChoice(first + number, with_logprobs) for number in range(n)]

    def deltas(self, events: Sequence[Event]) -> Iterator[dict[str, Any]]:
        """Yield the new output of choices; consecutive text of a choice becomes one delta."""
        texts: dict[int, list[TextDelta]] = {}
        for event in events:
            match event:
                case TextDelta(choice=number):
                    texts.setdefault(number, []).append(event)
                case PromptEcho(text, logprobs):
                    for choice in self.choices:
                        yield choice.delta(text, logprobs, starts=True)
                case ChoiceFinished(reason, number):
                    yield from self._flush(texts)
                    yield self.choices[number].delta("", reason=reason)
                case Finished():
                    yield from self._flush(texts)
                    for choice in self.choices:
                        if choice.reason is None:
                            yield choice.delta("", reason=event.reason)
        yield from self._flush(texts)

    def _flush(self, texts: dict[int, list[TextDelta]]) -> Iterator[dict[str, Any]]:
        for number, events in texts.items():
            logprobs = tuple([each for event in events for each in event.logprobs])
            self.choices[number].logprobs += [each.chosen.logprob for each in logprobs]
            yield self.choices[number].delta("".join([event.text for event in events]), logprobs)
        texts.clear()

    def best(self, count: int | None) -> list[int]:
        """Return the numbers of the `count` choices with the highest mean log-probability, best first."""
        numbers = range(len(self.choices))
        if count in (None, len(self.choices)):
            return list(numbers)
        return sorted(numbers, key=lambda number: -_mean(self.choices[number].logprobs))[:count]


def _mean(logprobs: list[float]) -> float:
    return sum(logprobs) / len(logprobs) if logprobs else -math.inf


def joined(index: int, deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the deltas of a choice."""
    logprobs = [delta["logprobs"] for delta in deltas if delta["logprobs"] is not None]
    return {
        "text": "".join([delta["text"] for delta in deltas]),
        "index": index,
        "logprobs": {key: [value for each in logprobs for value in each[key]] for key in logprobs[0]}
        if logprobs
        else None,
        "finish_reason": deltas[-1]["finish_reason"],
    }


def envelope(reply: CompletionReply) -> dict[str, Any]:
    """Return the fields that all objects of one response share."""
    return {
        "id": reply.request.id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": reply.model.name,
    }


def usage(reply: CompletionReply) -> dict[str, Any]:
    """Return the usage object for all prompts."""
    return usage_json(OutputCompleted(reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens))


def prompt_outputs(reply: CompletionReply, prompts: int, *, logprobs: bool) -> list[PromptOutput]:
    """Return the outputs of all prompts, with as many choices as the prepared request has."""
    assert isinstance(reply.request, CompletionRequest)
    n = reply.request.n
    return [PromptOutput(number * n, n, logprobs) for number in range(prompts)]


class CompletionCollector(Collector[NumberedEvent]):
    """Builds a non-streaming completion with the best `n_returned` choices of each prompt, or all if None."""

    def __init__(self, reply: CompletionReply, prompts: int, n_returned: int | None, *, logprobs: bool) -> None:
        self._reply = reply
        self._n_returned = n_returned
        self._prompts = prompt_outputs(reply, prompts, logprobs=logprobs)
        self._deltas: dict[int, list[dict[str, Any]]] = {}

    def add(self, events: Sequence[NumberedEvent]) -> None:
        for number, group in grouped(events):
            for delta in self._prompts[number].deltas(group):
                self._deltas.setdefault(delta["index"], []).append(delta)

    async def response(self) -> Response:
        best = [prompt.choices[at].index for prompt in self._prompts for at in prompt.best(self._n_returned)]
        choices = [joined(index, self._deltas[original]) for index, original in enumerate(best)]
        return JsonResponse(envelope(self._reply) | {"choices": choices, "usage": usage(self._reply)})


class ChunkEncoder(Encoder[NumberedEvent]):
    """Encodes completions as chunks; the JSON that all chunks share is serialized once."""

    def __init__(self, reply: CompletionReply, prompts: int, options: StreamOptions, *, logprobs: bool) -> None:
        self._reply = reply
        self._prompts = prompt_outputs(reply, prompts, logprobs=logprobs)
        self._include_usage = include_usage = options.include_usage is True
        self._continuous_usage = include_usage and options.continuous_usage_stats is True
        self._head = dumps(envelope(reply))[:-1]
        self._end = '],"usage":null}' if include_usage else "]}"

    def encode(self, events: Sequence[NumberedEvent]) -> list[str]:
        if self._continuous_usage:
            self._end = f'],"usage":{dumps(usage_so_far(self._reply))}}}'
        return [
            f'{self._head},"choices":[{dumps(delta)}{self._end}'
            for number, group in grouped(events)
            for delta in self._prompts[number].deltas(group)
        ]

    async def finish(self) -> list[str]:
        usage_chunk = f'{self._head},"choices":[],"usage":{dumps(usage(self._reply))}}}'
        return [usage_chunk, "[DONE]"] if self._include_usage else ["[DONE]"]
