"""No documented field is dropped silently.

Every field of the SDKs' parameters, and of vLLM's additional ones, changes the request to the model or the response, is
listed in `x-mlx-host-ignored`, or is rejected by name. The fields come from the types of the installed SDKs, so that a
new version with a new field fails here unless it is handled.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import anthropic.types.beta.message_count_tokens_params as beta_count_tokens
import anthropic.types.beta.message_create_params as beta_messages
import anthropic.types.message_count_tokens_params as count_tokens
import anthropic.types.message_create_params as messages
import httpx2
import openai.types.audio.transcription_create_params as transcriptions
import openai.types.audio.translation_create_params as translations
import openai.types.chat.completion_create_params as chat
import openai.types.completion_create_params as completions
import openai.types.embedding_create_params as embeddings
import openai.types.image_edit_params as image_edits
import openai.types.image_generate_params as images
import openai.types.responses.input_token_count_params as input_tokens
import openai.types.responses.response_create_params as responses
import pytest
from mlx_host._apis.builtin import register_apis
from mlx_host._http.app import make_app, mount
from mlx_host.events import (
    EmbeddingBatch,
    Finished,
    ImageCompleted,
    ImagesStarted,
    Segment,
    Started,
    TextDelta,
    Tokenized,
    TranscriptionStarted,
)
from mlx_host.requests import ChatRequest, CompletionRequest, GenerationRequest, Request
from mlx_host.testing import FakeService
from mlx_host_messages.plugin import MESSAGES

from tests.support.typed_dicts import SCHEMA, Change, changes

BUILTIN_APIS = tuple(register_apis())
SEGMENT = Segment(
    "Hi", start=0, end=1, seek=0, token_ids=(1,), temperature=0, avg_logprob=0, compression_ratio=1, no_speech_prob=0
)
TEXT = (Started(prompt_tokens=2), TextDelta("Hi"), Finished())
TOOL = {"type": "function", "function": {"name": "probe", "parameters": SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "probe", "schema": SCHEMA}}
# The fields of forms that are files.
FILES = ("file", "image", "mask", "markup")
# The keys of a message that chat templates read.
MESSAGE_KEYS = ("role", "content", "tool_calls", "function_call", "tool_call_id", "name", "reasoning_content")


Context = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Endpoint:
    """An endpoint with its documented parameters, and the events of a model's reply.

    `context` adds fields to the bodies that test a field, by its path. `neutral` are fields whose other values have the
    effect of the default, with the reason; `FIELD (TYPE)` is one alternative of a field's type. `form`: the body is
    multipart/form-data.
    """

    path: str
    params: Any
    script: Sequence[Any] = field(default=TEXT, repr=False)
    context: Context = field(default_factory=dict)
    neutral: Mapping[str, str] = field(default_factory=dict)
    form: bool = False

    def __str__(self) -> str:
        name = getattr(self.params, "__module__", "vllm")
        return f"{self.path} {'beta' if 'beta' in name else name.partition('.')[0]}"


STREAM_OPTIONS: Context = {"stream_options": {"stream": True}}
CHAT: Context = {
    **STREAM_OPTIONS,
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [TOOL]},
    "parallel_tool_calls": {"tools": [TOOL]},
}
DEFAULT = "the default"
LONG = "the listed path is cut"
CLIENT = "for the client, which runs the tool"
LABEL = "a name that only identifies the schema"
ALWAYS_STRICT = "schemas are always enforced"
RESPONSES_TOOLS = [{"type": "function", "name": "probe", "parameters": SCHEMA}]
RESPONSES_NEUTRAL = {
    "text.format (ResponseFormatText)": DEFAULT,
    "text.format.name": LABEL,
    "text.format.strict": ALWAYS_STRICT,
    "input.type": DEFAULT,
    "input.content (Content)": "the reasoning, which is also the summary here",
    "input.id": "part of the stored items",
    "input.phase": "part of the stored items",
    "tools.format (Text)": DEFAULT,
    "tools.tools.format (Text)": DEFAULT,
    "truncation": "has an effect on prompts that are too long",
}
MESSAGES_TOOLS = [{"name": "probe", "input_schema": SCHEMA}]
MESSAGES_CONTEXT = {"tool_choice": {"tools": MESSAGES_TOOLS}}
MESSAGES_NEUTRAL = (
    {
        f"{name} ({beta}{kind})": DEFAULT
        for beta in ("", "Beta")
        for name, kind in (("thinking", "ThinkingConfigAdaptiveParam"), ("tool_choice", "ToolChoiceAutoParam"))
    }
    | {
        "tools.type (scalar)": DEFAULT,
        "thinking.display": "has an effect on thinking",
        "tools.max_characters": CLIENT,
        "tools.display_number": CLIENT,
        "messages.clear_at": "has an effect on text",
        "thread (BetaThreadCreateParams)": "stores the message",
    }
    | {
        f"messages.content.{field}.tool.definition.{name}".replace("..", "."): reason
        for field in ("", "tool_changes")
        for name, reason in (
            ("type", DEFAULT),
            ("max_characters", CLIENT),
            ("display_number", CLIENT),
            ("defer_loading", "the tool is offered because it is added"),
            ("allowed_callers", LONG),
            ("eager_input_streaming", LONG),
        )
    }
)
IMAGE = (
    ImagesStarted(prompt_tokens=1, width=16, height=16, steps=1),
    ImageCompleted(0, seed=1, token_count=1, content=b"image"),
    Finished(),
)
TRANSCRIPT = (TranscriptionStarted(prompt_tokens=1, duration=1.0, language="english"), SEGMENT, Finished())
IMAGES_CONTEXT: Context = {
    "output_compression": {"output_format": "jpeg"},
    "partial_images": {"stream": True},
}

# The fields of vLLM's server that OpenAI does not have, with values other than the default. Source: "Extra parameters"
# in vLLM's documentation of its OpenAI-compatible server, and its request classes.
VLLM_SAMPLING: dict[str, Any] = {
    "use_beam_search": True,
    "top_k": 5,
    "min_p": 0.5,
    "repetition_penalty": 1.5,
    "length_penalty": 0.5,
    "stop_token_ids": [1],
    "include_stop_str_in_output": True,
    "ignore_eos": True,
    "min_tokens": 2,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "truncate_prompt_tokens": 5,
    "prompt_logprobs": 1,
    "allowed_token_ids": [1],
    "bad_words": ["probe"],
    "add_special_tokens": False,
    "structured_outputs": {"regex": "a+"},
    "guided_json": SCHEMA,
    "priority": 1,
    "request_id": "probe",
    "return_tokens_as_token_ids": True,
    "return_token_ids": True,
    "cache_salt": "probe",
    "kv_transfer_params": {"probe": 1},
    "logits_processors": ["probe"],
    "vllm_xargs": {"probe": 1},
}
VLLM_CHAT: dict[str, Any] = {
    **VLLM_SAMPLING,
    "echo": True,
    "add_generation_prompt": False,
    "continue_final_message": True,
    "include_reasoning": False,
    "documents": [{"title": "probe", "text": "probe"}],
    "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"probe": 1},
    "mm_processor_kwargs": {"probe": 1},
}
VLLM_EMBEDDING: dict[str, Any] = {
    "truncate_prompt_tokens": 5,
    "add_special_tokens": False,
    "priority": 1,
    "request_id": "probe",
    "normalize": False,
    "embed_dtype": "float16",
    "endianness": "big",
    "messages": [{"role": "user", "content": "probe"}],
}
VLLM_TOKENIZE_CHAT: dict[str, Any] = {
    "add_generation_prompt": False,
    "continue_final_message": True,
    "return_token_strs": True,
    "add_special_tokens": True,
    "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"probe": 1},
    "mm_processor_kwargs": {"probe": 1},
    "tools": [TOOL],
}
CHAT_BODY = {"messages": [{"role": "user", "content": "probe"}]}
TOKENIZED = (Started(prompt_tokens=0), Tokenized((1,), ("a",)), Finished())
VECTOR = (Started(prompt_tokens=1), EmbeddingBatch((0,), b"\0\0\0\0" * 4), Finished())

SDK_ENDPOINTS = (
    Endpoint(
        "/v1/chat/completions",
        chat.CompletionCreateParamsNonStreaming,
        context=CHAT,
        neutral={
            "response_format (ResponseFormatText)": DEFAULT,
            "response_format.json_schema.name": LABEL,
            "response_format.json_schema.strict": ALWAYS_STRICT,
            "tools.custom.format (CustomFormatText)": DEFAULT,
        },
    ),
    Endpoint("/v1/completions", completions.CompletionCreateParamsNonStreaming, context=STREAM_OPTIONS),
    Endpoint(
        "/v1/responses",
        responses.ResponseCreateParamsNonStreaming,
        context={"tool_choice": {"tools": RESPONSES_TOOLS}, "parallel_tool_calls": {"tools": RESPONSES_TOOLS}},
        neutral=RESPONSES_NEUTRAL,
    ),
    Endpoint(
        "/v1/responses/input_tokens",
        input_tokens.InputTokenCountParams,
        context={"tool_choice": {"tools": RESPONSES_TOOLS}},
        neutral=RESPONSES_NEUTRAL,
    ),
    Endpoint("/v1/embeddings", embeddings.EmbeddingCreateParams, VECTOR),
    Endpoint("/v1/images/generations", images.ImageGenerateParamsNonStreaming, IMAGE, IMAGES_CONTEXT),
    Endpoint("/v1/images/edits", image_edits.ImageEditParamsNonStreaming, IMAGE, IMAGES_CONTEXT, form=True),
    Endpoint(
        "/v1/audio/transcriptions",
        transcriptions.TranscriptionCreateParamsNonStreaming,
        TRANSCRIPT,
        {"timestamp_granularities": {"response_format": "verbose_json"}},
        form=True,
    ),
    Endpoint("/v1/audio/translations", translations.TranslationCreateParams, TRANSCRIPT, form=True),
    Endpoint(
        "/v1/messages", messages.MessageCreateParamsNonStreaming, context=MESSAGES_CONTEXT, neutral=MESSAGES_NEUTRAL
    ),
    Endpoint(
        "/v1/messages",
        beta_messages.MessageCreateParamsNonStreaming,
        context=MESSAGES_CONTEXT,
        neutral=MESSAGES_NEUTRAL,
    ),
    Endpoint(
        "/v1/messages/count_tokens",
        count_tokens.MessageCountTokensParams,
        context=MESSAGES_CONTEXT,
        neutral=MESSAGES_NEUTRAL,
    ),
    Endpoint(
        "/v1/messages/count_tokens",
        beta_count_tokens.MessageCountTokensParams,
        context=MESSAGES_CONTEXT,
        neutral=MESSAGES_NEUTRAL,
    ),
)
VLLM_ENDPOINTS = (
    ("/v1/chat/completions", CHAT_BODY, VLLM_CHAT, TEXT),
    ("/v1/completions", {"prompt": "probe"}, VLLM_SAMPLING, TEXT),
    ("/v1/responses", {"input": "probe"}, VLLM_SAMPLING, TEXT),
    ("/v1/embeddings", {"input": "probe"}, VLLM_EMBEDDING, VECTOR),
    ("/tokenize", CHAT_BODY, VLLM_TOKENIZE_CHAT, TOKENIZED),
    ("/tokenize", {"prompt": "probe"}, {"add_special_tokens": False, "return_token_strs": True}, TOKENIZED),
    ("/detokenize", {"tokens": [1]}, {"probe": 1}, TEXT),
)


@dataclass(frozen=True)
class Outcome:
    """What a body results in; `effect` is the request to the model, `text` the response, both without ids."""

    status: int
    text: str
    ignored: tuple[str, ...]
    effect: Any

    @property
    def error(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self.text)["error"]
        return found


class CountingService(FakeService):
    """Keeps all requests, including conversations whose tokens were counted."""

    def __init__(self, script: Sequence[Any]) -> None:
        super().__init__(script)
        self._counted: list[Request] = []

    def requests(self) -> list[Request]:
        return [*(reply.request for reply in self.replies), *self._counted]

    def clear(self) -> None:
        self.replies.clear()
        self._counted.clear()

    async def count_tokens(self, request: ChatRequest, **more: Any) -> int:
        self._counted.append(request)
        return await super().count_tokens(request, **more)


class Client:
    """Sends bodies to one endpoint, with a model that follows the script; equal bodies are sent once."""

    def __init__(self, http: httpx2.AsyncClient, service: CountingService, endpoint: Endpoint) -> None:
        self._http = http
        self._service = service
        self._endpoint = endpoint
        self._outcomes: dict[str, Outcome] = {}

    async def send(self, body: Mapping[str, Any]) -> Outcome:
        key = json.dumps(body, sort_keys=True)
        if key not in self._outcomes:
            self._outcomes[key] = await self._send(_complete(self._endpoint.path, body))
        return self._outcomes[key]

    async def _send(self, body: Mapping[str, Any]) -> Outcome:
        self._service.clear()
        if self._endpoint.form:
            files = [part for name, value in body.items() for part in _form(name, value)]
            response = await self._http.post(self._endpoint.path, files=files)
        else:
            response = await self._http.post(self._endpoint.path, json=body)
        listed = response.headers.get("x-mlx-host-ignored", "")
        return Outcome(
            response.status_code,
            re.sub(r"_?[0-9a-f]{32}|\"created(_at)?\":\d+|\"completed_at\":\d+", "", response.text),
            # The names in forms are `svg[model]`, those in JSON `svg.model`.
            tuple(unquote(name).replace("[", ".").replace("]", "") for name in listed.split(", ")) if listed else (),
            [_effect(request) for request in self._service.requests()],
        )


def _complete(path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add what a conversation needs to be valid."""
    if path.startswith("/v1/messages") and isinstance(body.get("messages"), list):
        return {**body, "messages": [*body["messages"], {"role": "user", "content": "end"}]}
    if path.startswith("/v1/responses"):
        return {"input": "start", **body}
    return body


def _form(name: str, value: Any) -> list[tuple[str, tuple[str | None, str]]]:
    """The parts of a form, in the SDK's notation."""
    if isinstance(value, dict):
        return [part for key, member in value.items() for part in _form(f"{name}[{key}]", member)]
    if isinstance(value, list):
        return [part for member in value for part in _form(f"{name}[]", member)]
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    return [(name, (name if name in FILES else None, text))]


def _effect(request: Any) -> Any:
    """What a model reads of a request."""
    if not isinstance(request, Request):
        return None
    fields = {each.name: getattr(request, each.name) for each in dataclasses.fields(request)}
    del fields["id"]
    if isinstance(request, ChatRequest):
        fields["messages"] = [_message(message) for message in request.messages]
    if "prompt" in fields and isinstance(fields["prompt"], ChatRequest):
        fields["prompt"] = _effect(fields["prompt"])
    if isinstance(request, GenerationRequest | CompletionRequest):
        fields["sampling"] = dataclasses.asdict(request.sampling)
    if "seed" in fields and fields["seed"] > 1000:
        fields["seed"] = "random"
    return fields


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    read = {key: message[key] for key in MESSAGE_KEYS if key in message}
    if isinstance(read.get("content"), list):
        read["content"] = [_part(part) for part in read["content"]]
    if read.get("tool_calls"):
        read["tool_calls"] = [
            (call.get("id"), call["function"]["name"], call["function"].get("arguments"))
            if "function" in call
            else "rejected by the model"
            for call in read["tool_calls"]
        ]
    return read


def _part(part: Mapping[str, Any]) -> Any:
    """What the text and vision models read of a content part; for other types, which they reject, nothing."""
    image, audio = part.get("image_url"), part.get("input_audio")
    match part["type"]:
        case "text" | "refusal" as kind:
            return part[kind]
        case "image_url" if isinstance(image, dict):
            return image["url"], image.get("detail")
        case "input_audio" if isinstance(audio, dict):
            return audio["data"], audio["format"]
    return ("rejected by the model", part)


async def _with_client(endpoint: Endpoint, work: Any) -> Any:
    service = CountingService(endpoint.script)
    apis = [api for api in (*BUILTIN_APIS, MESSAGES) if any(endpoint.path.startswith(each) for each in api.prefixes)]
    mounted = [mount(api, "test", service, api.settings()) for api in apis]
    async with AsyncExitStack() as stack:
        for each in mounted:
            await stack.enter_async_context(each.endpoints.lifespan())
        transport = httpx2.ASGITransport(make_app(mounted, 64))
        http = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://test"))
        return await work(Client(http, service, endpoint))


def _is_listed(path: str, outcome: Outcome, types: Mapping[str, str] = {}) -> bool:
    """Whether a field, an object around it, or the type of one is listed as ignored."""
    parents = [path.rsplit(".", up)[0] for up in range(path.count(".") + 1)]
    typed = [f"{place}.{types[place]}" for place in parents if place in types]
    return any(name in (*parents, *typed) or name.startswith(f"{path}.") for name in outcome.ignored)


def _is_named(path: str, outcome: Outcome) -> bool:
    """Whether an error names a field: in `param`, or in its message."""
    error = outcome.error
    where = re.sub(r"\[\d+\]|\.\d+", "", f"{error.get('param')} {error['message']}")
    parents = [path.rsplit(".", up)[0] for up in range(path.count(".") + 1)]
    return path.rpartition(".")[2] in where or any(parent in where for parent in parents)


async def _dropped(client: Client, endpoint: Endpoint, params: Sequence[Change]) -> set[str]:
    """The fields without an effect that are neither listed nor rejected by name."""
    accepted: dict[tuple[str, str, str], list[bool]] = {}
    for change in params:
        context = next((more for name, more in endpoint.context.items() if change.path.startswith(name)), {})
        base = await client.send({**context, **change.base})
        if base.status >= 400:
            # An unsupported alternative; its fields do not matter.
            assert base.status < 500, (change, base)
            assert _is_named(change.path, base), (change, base)
            continue
        if _is_listed(change.path, base, change.types) or endpoint.neutral.keys() & {
            change.path,
            f"{change.path} ({change.kind})",
        }:
            continue
        changed = await client.send({**context, **change.changed})
        assert changed.status < 500, (change, changed)
        if changed.status >= 400:
            handled = _is_named(change.path, changed)
        else:
            nested = "." in change.path and not change.path.startswith("stream_options")
            handled = changed.effect != base.effect or (not nested and changed.text != base.text)
            handled |= _is_listed(change.path, changed, change.types)
        where = (change.path, change.kind, json.dumps(change.types))
        accepted.setdefault(where, []).append(handled)
    return {f"{path} ({kind})" for (path, kind, _), handled in accepted.items() if not any(handled)}


@pytest.mark.parametrize("endpoint", SDK_ENDPOINTS, ids=str)
def test_fields_of_the_sdks_are_not_dropped(endpoint: Endpoint) -> None:
    async def work(client: Client) -> set[str]:
        return await _dropped(client, endpoint, list(changes(endpoint.params)))

    dropped = asyncio.run(_with_client(endpoint, work))
    assert not dropped, "\n".join(sorted(dropped))


@pytest.mark.parametrize(("path", "body", "fields", "script"), VLLM_ENDPOINTS)
def test_fields_of_vllm_are_not_dropped(path: str, body: Any, fields: Any, script: Any) -> None:
    endpoint = Endpoint(path, None, script)
    params = [Change(name, body, {**body, name: value}, "", False, {}) for name, value in fields.items()]

    async def work(client: Client) -> set[str]:
        return await _dropped(client, endpoint, params)

    dropped = asyncio.run(_with_client(endpoint, work))
    assert not dropped, "\n".join(sorted(dropped))
