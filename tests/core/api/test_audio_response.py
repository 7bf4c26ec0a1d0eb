"""Events of transcriptions become responses and streams; output that breaks the backend contract is an error."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from mlx_host._apis.audio.response import TranscriptCollector, TranscriptEncoder
from mlx_host._apis.audio.schema import AudioForm
from mlx_host.api.http import BackendContractError, collect
from mlx_host.events import Event, Finished, Segment, TranscriptionStarted
from mlx_host.requests import TranscriptionRequest

from tests.support.fake_service import ListedReply

STARTED = TranscriptionStarted(prompt_tokens=3, duration=2.5, language="english")
REQUEST = TranscriptionRequest(id="r", model="m", audio=b"")


def segment(text: str, **numbers: float) -> Segment:
    values: dict[str, Any] = {
        **{"start": 0.0, "end": 1.0, "seek": 0, "token_ids": (1,)},
        **{"temperature": 0.0, "avg_logprob": -0.5, "compression_ratio": 1.0, "no_speech_prob": 0.0},
    }
    return Segment(text, **{**values, **numbers})


def response(events: Sequence[Event], **form: Any) -> bytes:
    reply = ListedReply([events], request=REQUEST)
    collector = TranscriptCollector(reply, AudioForm(**form))

    async def run() -> bytes:
        await collect(reply, collector)
        return bytes((await collector.response()).body)

    return asyncio.run(run())


def test_a_stream_and_a_response_have_the_same_text() -> None:
    batches = [[STARTED, segment(" One")], [segment(" two. "), Finished()]]
    encoder = TranscriptEncoder(ListedReply([], request=REQUEST, prompt_tokens=3, completion_tokens=2))
    messages = [json.loads(message) for batch in batches for message in encoder.encode(batch)]
    assert [message["delta"] for message in messages] == ["One", " two."]
    (done,) = map(json.loads, asyncio.run(encoder.finish()))
    assert done == {
        "type": "transcript.text.done",
        "text": "One two.",
        "usage": {"type": "tokens", "input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    }
    body = json.loads(response([event for batch in batches for event in batch]))
    assert body == {"text": "One two.", "usage": {"type": "duration", "seconds": 2.5}}


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([STARTED, segment("a", avg_logprob=math.nan)], "not finite"),
        ([STARTED, segment("a", end=math.inf)], "not finite"),
    ],
)
@pytest.mark.parametrize("response_format", ["json", "verbose_json", "srt"])
def test_values_that_are_not_finite_are_an_error_that_names_the_backend(
    events: list[Event], fault: str, response_format: str
) -> None:
    with pytest.raises(BackendContractError, match=f"'m'.*'toy'.*{fault}") as rejection:
        response([*events, Finished()], response_format=response_format)
    assert rejection.value.status == 500
