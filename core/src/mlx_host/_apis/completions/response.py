"""OpenAI's legacy completion, whole or in chunks, out of what models say; there is nothing to parse in it."""

from __future__ import annotations

import codecs
import math
import time
from collections.abc import Iterator
from typing import Any

from mlx_host._apis.chat.response import LEAST_LOGPROB
from mlx_host.api import json_io
from mlx_host.events import ChoiceFinished, Echoed, Event, Finished, Logprobs, StopReason, Text, TokenLogprob


def frame(id: str, model: str) -> dict[str, Any]:
    """What every piece of one answer has in common."""
    return {"id": id, "object": "text_completion", "created": int(time.time()), "model": model}


def token_text(token: TokenLogprob) -> str:
    """Write a token as OpenAI does: one that is no text by itself is told by its bytes."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


def finite(logprob: float) -> float:
    """JSON knows neither infinity nor NaN."""
    return LEAST_LOGPROB if math.isnan(logprob) else max(logprob, LEAST_LOGPROB)


class Offsets:
    """Where each token of a choice begins in its text, in characters."""

    def __init__(self) -> None:
        self._at = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def next(self, token: TokenLogprob) -> int:
        begins = self._at
        self._at += len(self._utf8.decode(token.bytes))
        return begins


class Choice:
    """One choice as it grows."""

    def __init__(self, index: int, with_logprobs: bool) -> None:
        self.index = index
        self.reason: StopReason | None = None
        self.logprobs: list[float] = []
        self._with_logprobs = with_logprobs
        self._offsets = Offsets()

    def piece(
        self, text: str, logprobs: tuple[Logprobs, ...] = (), reason: StopReason | None = None, *, starts: bool = False
    ) -> dict[str, Any]:
        """Write what was added; `starts` says that the first token follows nothing."""
        self.reason = reason
        said = self._logprobs_json(logprobs, starts) if logprobs and self._with_logprobs else None
        return {"text": text, "index": self.index, "logprobs": said, "finish_reason": reason}

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
            "text_offset": [self._offsets.next(each.chosen) for each in logprobs],
        }


class Prompt:
    """The choices of one prompt, of which there are `n`, numbered from `first`."""

    def __init__(self, first: int, n: int, with_logprobs: bool) -> None:
        self.choices = [Choice(first + number, with_logprobs) for number in range(n)]

    def pieces(self, events: list[Event]) -> Iterator[dict[str, Any]]:
        """Write what a model said as pieces of choices; neighbouring text of a choice becomes one."""
        texts: dict[int, list[Text]] = {}
        for event in events:
            match event:
                case Text(choice=number):
                    texts.setdefault(number, []).append(event)
                case Echoed(text, logprobs):
                    for choice in self.choices:
                        yield choice.piece(text, logprobs, starts=True)
                case ChoiceFinished(reason, number):
                    yield from self._flush(texts)
                    yield self.choices[number].piece("", reason=reason)
                case Finished():
                    yield from self._flush(texts)
                    for choice in self.choices:
                        if choice.reason is None:
                            yield choice.piece("", reason=event.reason)
        yield from self._flush(texts)

    def _flush(self, texts: dict[int, list[Text]]) -> Iterator[dict[str, Any]]:
        for number, pieces in texts.items():
            logprobs = tuple([each for piece in pieces for each in piece.logprobs])
            self.choices[number].logprobs += [each.chosen.logprob for each in logprobs]
            yield self.choices[number].piece("".join([piece.text for piece in pieces]), logprobs)
        texts.clear()

    def best(self, count: int) -> list[int]:
        """The numbers of the choices with the likeliest tokens on average, best first; all of them as they are."""
        numbers = range(len(self.choices))
        if count == len(self.choices):
            return list(numbers)
        return sorted(numbers, key=lambda number: -_mean(self.choices[number].logprobs))[:count]


def _mean(logprobs: list[float]) -> float:
    return sum(logprobs) / len(logprobs) if logprobs else -math.inf


def joined(index: int, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the pieces of a choice up."""
    logprobs = [piece["logprobs"] for piece in pieces if piece["logprobs"] is not None]
    return {
        "text": "".join([piece["text"] for piece in pieces]),
        "index": index,
        "logprobs": {key: [value for each in logprobs for value in each[key]] for key in logprobs[0]}
        if logprobs
        else None,
        "finish_reason": pieces[-1]["finish_reason"],
    }


class Chunks:
    """Writes pieces as chunks; what is the same in every chunk is written once."""

    def __init__(self, frame: dict[str, Any], include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head = f"data: {json_io.dumps(frame)[:-1]}"
        self._end = '],"usage":null}\n\n' if include_usage else "]}\n\n"

    def write(self, piece: dict[str, Any]) -> str:
        return f'{self._head},"choices":[{json_io.dumps(piece)}{self._end}'

    def usage(self, usage: dict[str, Any]) -> str:
        return f'{self._head},"choices":[],"usage":{json_io.dumps(usage)}}}\n\n' if self._include_usage else ""
