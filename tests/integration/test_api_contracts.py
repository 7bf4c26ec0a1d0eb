"""The contract of APIs on those of this repository; each lies over the scripted backend."""

from __future__ import annotations

import json
from typing import ClassVar

from mlx_host._apis.chat import CHAT
from mlx_host._apis.completions import COMPLETIONS
from mlx_host.testing import ApiContract, HttpResponse

from tests.support.client import events, says, script

SCRIPTED = ("--backend", "scripted", "--parser", "qwen3")


class TestChat(ApiContract):
    api = CHAT
    arguments = SCRIPTED
    path = "/v1/chat/completions"
    body: ClassVar = {"model": "m", "messages": says("<think>Hm.</think>", "Hello", " there.")}
    stream: ClassVar = {"stream": True, "stream_options": {"include_usage": True}}
    invalid = ({"messages": []}, {"n": 0}, {"messages": script(["refuse", "no"])})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        if response.media_type == "application/json":
            (choice,) = response.json()["choices"]
            message = choice["message"]
            return message["reasoning_content"], message["content"], choice["finish_reason"], response.json()["usage"]
        *chunks, last = events(response.text)
        choices = [chunk["choices"][0] for chunk in chunks]
        texts = ["".join(c["delta"].get(name, "") for c in choices) for name in ("reasoning_content", "content")]
        return *texts, choices[-1]["finish_reason"], last["usage"]


class TestCompletions(ApiContract):
    api = COMPLETIONS
    arguments = SCRIPTED
    path = "/v1/completions"
    body: ClassVar = {"model": "m", "prompt": json.dumps([["say", "Hello"], ["say", " there."]])}
    stream: ClassVar = {"stream": True}
    invalid = ({"prompt": []}, {"best_of": 0}, {"suffix": "refuse"})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        bodies = [response.json()] if response.media_type == "application/json" else events(response.text)
        choices = [body["choices"][0] for body in bodies]
        return "".join(choice["text"] for choice in choices), choices[-1]["finish_reason"]
