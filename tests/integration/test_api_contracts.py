"""Every API of this repository that submits requests passes the API contract; models are scripted.

An API without a subclass of ApiContract here fails a test that names it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mlx_host._apis.audio import AUDIO
from mlx_host._apis.chat import CHAT
from mlx_host._apis.completions import COMPLETIONS
from mlx_host._apis.embeddings import EMBEDDINGS
from mlx_host._apis.images import IMAGES
from mlx_host._apis.responses import RESPONSES
from mlx_host._apis.tokens import TOKENS
from mlx_host._cli import discover
from mlx_host.api import Api
from mlx_host.testing import ApiContract, HttpResponse
from mlx_host_messages.plugin import MESSAGES

from tests.support.client import events, script, text_script
from tests.support.plugin_projects import install_projects

SCRIPTED = ("--backend", "scripted", "--parser", "qwen3")
CANNED = ("--backend", "canned")
BOUNDARY = "contract"
PROJECT = Path(__file__).parents[1] / "support" / "canned-media"


@pytest.fixture(scope="module", autouse=True)
def _canned_media(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the canned backend for the servers of these tests only."""
    installed = install_projects(tmp_path_factory.mktemp("installed"), [PROJECT])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installed), prepend=os.pathsep)
        yield


class TestChat(ApiContract):
    api = CHAT
    arguments = SCRIPTED
    path = "/v1/chat/completions"
    body: ClassVar = {"model": "m", "messages": text_script("<think>Hm.</think>", "Hello", " there.")}
    stream: ClassVar = {"stream": True, "stream_options": {"include_usage": True}}
    invalid = ({"messages": []}, {"n": 0}, {"messages": script(["reject", "no"])})

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
    body: ClassVar = {"model": "m", "prompt": json.dumps([["text", "Hello"], ["text", " there."]])}
    stream: ClassVar = {"stream": True}
    invalid = ({"prompt": []}, {"best_of": 0}, {"suffix": "reject"})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        bodies = [response.json()] if response.media_type == "application/json" else events(response.text)
        choices = [body["choices"][0] for body in bodies]
        return "".join(choice["text"] for choice in choices), choices[-1]["finish_reason"]


class TestResponses(ApiContract):
    api = RESPONSES
    arguments = SCRIPTED
    path = "/v1/responses"
    body: ClassVar = {"model": "m", "input": json.dumps([["text", "<think>Hm.</think>"], ["text", "Hello"]])}
    stream: ClassVar = {"stream": True}
    invalid = ({"input": []}, {"temperature": 3}, {"input": json.dumps([["reject", "no"]])})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        if response.media_type == "application/json":
            body = response.json()
        else:
            body = json.loads(response.messages()[-1][1])["response"]
        contents = [part["text"] for item in body["output"] for part in item["content"]]
        return body["status"], contents, body["usage"]


class TestTokens(ApiContract):
    api = TOKENS
    arguments = SCRIPTED
    path = "/tokenize"
    body: ClassVar = {"model": "m", "prompt": "Hello"}
    invalid = ({"prompt": None}, {"messages": []})


class TestMessages(ApiContract):
    api = MESSAGES
    arguments = SCRIPTED
    path = "/v1/messages"
    body: ClassVar = {
        "model": "m",
        "max_tokens": 100,
        "messages": text_script("<think>Hm.</think>", "Hello", " there."),
    }
    stream: ClassVar = {"stream": True}
    invalid = ({"messages": []}, {"max_tokens": -1}, {"messages": script(["reject", "no"])})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        if response.media_type == "application/json":
            body = response.json()
            return "".join(block.get("text", "") for block in body["content"]), body["stop_reason"]
        deltas = [json.loads(data)["delta"] for _, data in response.messages() if "delta" in json.loads(data)]
        return "".join(delta.get("text", "") for delta in deltas), deltas[-1]["stop_reason"]


class TestEmbeddings(ApiContract):
    api = EMBEDDINGS
    arguments = CANNED
    path = "/v1/embeddings"
    body: ClassVar = {"model": "m", "input": ["Hello", "there"]}
    invalid = ({"input": []}, {"dimensions": 0}, {"input": ["reject"]})


class FormContract(ApiContract):
    """The contract of an API with multipart forms; `files` are the uploads."""

    files: ClassVar[tuple[str, ...]]

    @classmethod
    def encode(cls, fields: Mapping[str, Any]) -> tuple[bytes, str]:
        parts = []
        for name, value in fields.items():
            file = '; filename="file"' if name in cls.files else ""
            parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{value}\r\n')
        return "".join([*parts, f"--{BOUNDARY}--\r\n"]).encode(), f"multipart/form-data; boundary={BOUNDARY}"


class TestAudio(FormContract):
    api = AUDIO
    arguments = CANNED
    path = "/v1/audio/transcriptions"
    files = ("file",)
    body: ClassVar = {"model": "m", "file": "RIFF"}
    stream: ClassVar = {"stream": "true"}
    invalid = ({"temperature": "hot"}, {"prompt": "reject"})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        if response.media_type == "application/json":
            return response.json()["text"]
        return json.loads(response.messages()[-1][1])["text"]


class TestImages(ApiContract):
    api = IMAGES
    arguments = CANNED
    path = "/v1/images/generations"
    body: ClassVar = {"model": "m", "prompt": "a fox", "seed": 7, "response_format": "b64_json"}
    stream: ClassVar = {"stream": True}
    invalid = ({"prompt": ""}, {"n": 0}, {"prompt": "reject"})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        if response.media_type == "application/json":
            (image,) = response.json()["data"]
        else:
            image = json.loads(response.messages()[-1][1])
        return image["b64_json"]


class TestImageEdits(FormContract):
    api = IMAGES
    arguments = CANNED
    path = "/v1/images/edits"
    files = ("image",)
    body: ClassVar = {"model": "m", "prompt": "a fox", "image": "RIFF"}
    invalid = ({"n": "0"}, {"prompt": "reject"})


CASES = {
    case.api.name for base in (ApiContract, FormContract) for case in base.__subclasses__() if hasattr(case, "api")
}


@pytest.mark.parametrize(
    "api", [api for api in discover().apis.found.values() if api.request_types], ids=lambda a: a.name
)
def test_each_api_is_tested(api: Api[Any]) -> None:
    assert api.name in CASES, f"API {api.name!r} has no subclass of ApiContract here; write one"
