"""One conversation, written in each text API, renders to the same prompt, and one output has the same content."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx_host._apis.builtin import register_apis
from mlx_host._http.app import make_app, mount
from mlx_host.events import Event, Finished, Started, TextDelta, Tokenized
from mlx_host.requests import ChatRequest, CompletionRequest, TokenizeRequest
from mlx_host.testing import FakeService
from mlx_host_messages.plugin import MESSAGES
from mlx_host_parser_qwen3 import Qwen3Parser
from mlx_host_text.chat_template import ChatTemplate
from mlx_host_text.limits import TextLimits
from mlx_host_text.messages import text_part
from mlx_host_text.prompts import TextPrompts
from mlx_host_text.tokenizer import Tokenizer
from transformers import AutoTokenizer

from tests.support.media import finish
from tests.support.tiny_llama import write_tiny_llama

# Shows everything that a template can show.
TEMPLATE = """\
{%- for tool in tools or [] %}<tool>{{ tool | tojson }}</tool>{% endfor -%}
{%- for message in messages -%}
<{{ message.role }}>{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}
{%- if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{{ part | tojson }}{% endfor %}{% endif -%}
{%- for call in message.tool_calls or [] %}<call {{ call.id }} {{ call.function | tojson }}>{% endfor -%}
{%- if message.role == "tool" %}<result {{ message.tool_call_id }} {{ message.name }}>{% endif %}</{{ message.role }}>
{% endfor -%}
{%- if add_generation_prompt %}<assistant>{% endif -%}"""
PNG = "iVBORw0KGgo="
LIMITS: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
NAMES = st.sampled_from(("get_weather", "search", "run"))
ARGUMENTS = st.dictionaries(
    TEXTS, st.one_of(TEXTS, st.integers(-9, 9), st.booleans(), st.lists(TEXTS, max_size=2)), max_size=2
)


@dataclass(frozen=True)
class Image:
    data: str = PNG


@dataclass(frozen=True)
class Call:
    name: str
    arguments: Mapping[str, Any]
    result: str | tuple[str | Image, ...]


@dataclass(frozen=True)
class Turn:
    """A late system message, the user's parts, and the assistant's response with the results of its calls."""

    system: str | None
    user: tuple[str | Image, ...]
    reasoning: str | None
    text: str | None
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Conversation:
    """The last turn has the user's parts only."""

    system: str | None
    tools: tuple[Mapping[str, Any], ...]
    turns: tuple[Turn, ...]

    def call_id(self, turn: int, call: int) -> str:
        return f"call_{turn}_{call}"


PARTS = st.lists(st.one_of(TEXTS, st.builds(Image)), min_size=1, max_size=3).map(tuple)
CALLS = st.builds(Call, NAMES, ARGUMENTS, st.one_of(TEXTS, PARTS))
TURNS = st.builds(
    Turn,
    st.none() | TEXTS,
    PARTS,
    st.none() | TEXTS,
    st.none() | TEXTS,
    st.lists(CALLS, max_size=2).map(tuple),
).filter(lambda turn: turn.text or turn.calls)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "parameters": st.just({"type": "object", "properties": {"city": {"type": "string"}}})},
        optional={"description": TEXTS, "strict": st.just(True)},
    ),
    max_size=3,
    unique_by=lambda tool: str(tool["name"]),
).map(tuple)
CONVERSATIONS = st.builds(Conversation, st.none() | TEXTS, TOOLS, st.lists(TURNS, min_size=1, max_size=4).map(tuple))


def dumps(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False)


def as_chat(conversation: Conversation) -> dict[str, Any]:
    def content(parts: str | Sequence[str | Image]) -> Any:
        if isinstance(parts, str):
            return parts
        return [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{part.data}"}}
            for part in parts
        ]

    messages: list[Any] = []
    if conversation.system is not None:
        messages.append({"role": "developer", "content": conversation.system})
    for number, turn in enumerate(conversation.turns):
        messages.append({"role": "user", "content": content(turn.user)})
        if turn.system is not None:
            messages.append({"role": "system", "content": turn.system})
        if number == len(conversation.turns) - 1:
            break
        calls = [
            {
                "id": conversation.call_id(number, index),
                "type": "function",
                "function": {"name": call.name, "arguments": dumps(call.arguments)},
            }
            for index, call in enumerate(turn.calls)
        ]
        message = {"role": "assistant", "content": turn.text, "reasoning_content": turn.reasoning, "tool_calls": calls}
        messages.append({key: value for key, value in message.items() if value or key == "content"})
        for index, call in enumerate(turn.calls):
            result = {"tool_call_id": conversation.call_id(number, index), "content": content(call.result)}
            messages.append({"role": "tool", **result})
    return {"messages": messages, "tools": [{"type": "function", "function": tool} for tool in conversation.tools]}


def as_response(conversation: Conversation) -> dict[str, Any]:
    def content(parts: str | Sequence[str | Image]) -> Any:
        if isinstance(parts, str):
            return parts
        return [
            {"type": "input_text", "text": part}
            if isinstance(part, str)
            else {"type": "input_image", "image_url": f"data:image/png;base64,{part.data}", "detail": "auto"}
            for part in parts
        ]

    items: list[Any] = []
    for number, turn in enumerate(conversation.turns):
        items.append({"role": "user", "content": content(turn.user)})
        if turn.system is not None:
            items.append({"type": "message", "role": "developer", "content": turn.system})
        if number == len(conversation.turns) - 1:
            break
        if turn.reasoning is not None:
            text = {"type": "reasoning_text", "text": turn.reasoning}
            items.append({"type": "reasoning", "id": f"rs_{number}", "summary": [], "content": [text]})
        if turn.text is not None:
            output = {"type": "output_text", "text": turn.text, "annotations": []}
            items.append({"type": "message", "role": "assistant", "content": [output]})
        for index, call in enumerate(turn.calls):
            function = {"name": call.name, "arguments": dumps(call.arguments)}
            items.append({"type": "function_call", "call_id": conversation.call_id(number, index), **function})
        for index, call in enumerate(turn.calls):
            result = {"call_id": conversation.call_id(number, index), "output": content(call.result)}
            items.append({"type": "function_call_output", **result})
    tools = [{"type": "function", **tool} for tool in conversation.tools]
    return {"instructions": conversation.system, "input": items, "tools": tools}


def as_message(conversation: Conversation) -> dict[str, Any]:
    def content(parts: str | Sequence[str | Image]) -> Any:
        if isinstance(parts, str):
            return parts
        return [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": part.data}}
            for part in parts
        ]

    messages: list[Any] = []
    for number, turn in enumerate(conversation.turns):
        messages.append({"role": "user", "content": content(turn.user)})
        if turn.system is not None:
            messages.append({"role": "system", "content": turn.system})
        if number == len(conversation.turns) - 1:
            break
        blocks: list[Any] = []
        if turn.reasoning is not None:
            blocks.append({"type": "thinking", "thinking": turn.reasoning, "signature": "s"})
        if turn.text is not None:
            blocks.append({"type": "text", "text": turn.text})
        results = []
        for index, call in enumerate(turn.calls):
            id = conversation.call_id(number, index)
            blocks.append({"type": "tool_use", "id": id, "name": call.name, "input": call.arguments})
            results.append({"type": "tool_result", "tool_use_id": id, "content": content(call.result)})
        messages.append({"role": "assistant", "content": blocks})
        if results:
            messages.append({"role": "user", "content": results})
    tools = [
        {"input_schema" if key == "parameters" else key: value for key, value in tool.items()}
        for tool in conversation.tools
    ]
    return {"max_tokens": 100, "system": conversation.system, "messages": messages, "tools": tools}


WRITERS = {
    "/v1/chat/completions": as_chat,
    "/tokenize": as_chat,
    "/v1/responses": as_response,
    "/v1/responses/input_tokens": as_response,
    "/v1/messages": as_message,
    "/v1/messages/count_tokens": as_message,
}


class TokenizingService(FakeService):
    """A model with a tokenizer and a template, whose output is `output`; `prompts` are the rendered prompts."""

    def __init__(self, prompts: TextPrompts, template: ChatTemplate) -> None:
        super().__init__(parser=Qwen3Parser)
        self.rendered: list[str] = []
        self.tokens: list[list[int]] = []
        self._prompts = prompts
        self._template = template
        self.output: Sequence[Event] = ()

    def submit(self, request: Any, **more: Any) -> Any:
        if isinstance(request, TokenizeRequest):
            self.tokens.append(finish(self._prompts.tokens(request)))
            self._script = [Started(prompt_tokens=0), Tokenized((), ()), Finished()]
            assert isinstance(request.prompt, ChatRequest)
            self._render(request.prompt)
        elif isinstance(request, CompletionRequest):
            self.tokens.append(list(finish(self._prompts.completion(request)).tokens))
            self._script = [Started(prompt_tokens=1), Finished()]
        return super().submit(request, **more)

    def chat(self, request: ChatRequest, **more: Any) -> Any:
        self.tokens.append(list(finish(self._prompts.chat(request)).tokens))
        self._render(request)
        self._script = self.output
        return super().chat(request, **more)

    async def count_tokens(self, request: ChatRequest, **more: Any) -> int:
        counting = TokenizeRequest(id="r", model="m", prompt=request, count_only=True)
        self.tokens.append(finish(self._prompts.tokens(counting)))
        self._render(request)
        return len(self.tokens[-1])

    def _render(self, request: ChatRequest) -> None:
        self.rendered.append(self._template.render(request).text)


def content_for_template(content: Any, where: str) -> Any:
    """Text as it is, and lists with images as parts, like a vision model."""
    if content is None or isinstance(content, str):
        return content or ""
    if all(part["type"] == "text" for part in content):
        return "\n".join(text_part(part, where) for part in content)
    return [part["text"] if part["type"] == "text" else part["image_url"]["url"] for part in content]


@dataclass(frozen=True)
class Apis:
    """The text APIs in this process, with SDKs as their clients."""

    runner: asyncio.Runner
    service: TokenizingService
    http: httpx2.AsyncClient
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic

    def post(self, path: str, body: Mapping[str, Any]) -> httpx2.Response:
        response = self.runner.run(self.http.post(path, json=body))
        assert response.status_code == 200, response.text
        return response


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apis]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    tokenizer = Tokenizer(AutoTokenizer.from_pretrained(folder))
    template = ChatTemplate(tokenizer, TEMPLATE, content_for_template)
    prompts = TextPrompts(tokenizer, template, len(tokenizer), TextLimits(1, None))
    service = TokenizingService(prompts, template)
    mounted = [mount(api, "test", service, api.settings()) for api in (*register_apis(), MESSAGES)]
    responses = next(each for each in mounted if each.name == "responses")
    with asyncio.Runner() as runner:
        lifespan = responses.endpoints.lifespan()
        runner.run(lifespan.__aenter__())
        transport = httpx2.ASGITransport(make_app(mounted, 64))
        http = httpx2.AsyncClient(transport=transport, base_url="http://test")
        yield Apis(
            runner,
            service,
            http,
            openai.AsyncOpenAI(base_url="http://test/v1", api_key="none", http_client=http),
            anthropic.AsyncAnthropic(base_url="http://test", api_key="none", http_client=http),
        )
        runner.run(http.aclose())
        runner.run(lifespan.__aexit__(None, None, None))
    prompts.close()


@settings(max_examples=250, **LIMITS)
@given(conversation=CONVERSATIONS)
def test_a_conversation_renders_to_the_same_prompt_in_every_api(apis: Apis, conversation: Conversation) -> None:
    apis.service.output = (Started(prompt_tokens=1), TextDelta("Hi"), Finished())
    rendered, tokens = {}, {}
    for path, write in WRITERS.items():
        apis.service.rendered.clear()
        apis.post(path, write(conversation))
        (rendered[path],) = apis.service.rendered
        tokens[path] = apis.service.tokens[-1]
    assert len(set(rendered.values())) == 1, rendered
    prompt = rendered["/v1/chat/completions"]
    apis.post("/v1/completions", {"prompt": prompt, "add_special_tokens": False})
    assert apis.service.tokens[-1] == tokens["/v1/chat/completions"]
    assert all(each == apis.service.tokens[-1] for each in tokens.values())


@dataclass(frozen=True)
class Output:
    """What a model writes."""

    reasoning: str | None
    text: str | None
    calls: tuple[tuple[str, Mapping[str, Any]], ...]

    @property
    def events(self) -> list[Event]:
        written = f"<think>\n{self.reasoning}\n</think>\n\n" if self.reasoning else ""
        written += self.text or ""
        for name, arguments in self.calls:
            written += f"\n<tool_call>\n{dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
        pieces = [written[at : at + 5] for at in range(0, len(written), 5)]
        return [Started(prompt_tokens=1), *map(TextDelta, pieces), Finished()]


PLAIN = st.text("abc XYZ.,é日🦊", min_size=1, max_size=20).map(str.strip).filter(bool)
OUTPUTS = st.builds(
    Output,
    st.none() | PLAIN,
    st.none() | PLAIN,
    st.lists(st.tuples(NAMES, ARGUMENTS), max_size=2).map(tuple),
).filter(lambda output: output.text or output.calls)
OFFERED = Conversation(
    None,
    tuple({"name": name, "parameters": {"type": "object"}} for name in ("get_weather", "search", "run")),
    (Turn(None, ("Hi",), None, None, ()),),
)
Content = tuple[str, str, list[tuple[str, Any]]]


def of_chat(message: Any) -> Content:
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
    return getattr(message, "reasoning_content", None) or "", message.content or "", calls


def of_response(response: Any) -> Content:
    reasoning = "".join(part.text for item in response.output if item.type == "reasoning" for part in item.content)
    calls = [(item.name, json.loads(item.arguments)) for item in response.output if item.type == "function_call"]
    return reasoning, response.output_text, calls


def of_message(message: Any) -> Content:
    by_type: dict[str, list[Any]] = {"thinking": [], "text": [], "tool_use": []}
    for block in message.content:
        by_type[block.type].append(block)
    return (
        "".join(block.thinking for block in by_type["thinking"]),
        "".join(block.text for block in by_type["text"]),
        [(block.name, block.input) for block in by_type["tool_use"]],
    )


async def contents(apis: Apis) -> dict[str, Content]:
    """The content of the model's output in each API, plain and streamed."""
    model: Any = {"model": "m"}
    chat, response, message = as_chat(OFFERED), as_response(OFFERED), as_message(OFFERED)
    del message["system"]
    found = {
        "chat": of_chat((await apis.openai.chat.completions.create(**model, **chat)).choices[0].message),
        "responses": of_response(await apis.openai.responses.create(**model, **response)),
        "messages": of_message(await apis.anthropic.messages.create(**model, **message)),
    }
    async with apis.openai.chat.completions.stream(**model, **chat) as stream:
        async for _ in stream:
            pass
        # The SDK does not accumulate reasoning, which OpenAI's API does not have.
        reasoning = found["chat"][0]
        found["chat, streamed"] = (reasoning, *of_chat((await stream.get_final_completion()).choices[0].message)[1:])
    async with apis.openai.responses.stream(**model, **response) as events:
        found["responses, streamed"] = of_response(await events.get_final_response())
    async with apis.anthropic.messages.stream(**model, **message) as blocks:
        found["messages, streamed"] = of_message(await blocks.get_final_message())
    return found


@settings(max_examples=90, **LIMITS)
@given(output=OUTPUTS)
def test_an_output_has_the_same_content_in_every_api(apis: Apis, output: Output) -> None:
    apis.service.output = output.events
    found = apis.runner.run(contents(apis))
    expected = (output.reasoning or "", output.text or "", [(name, dict(given)) for name, given in output.calls])
    assert {name: (reasoning.strip(), text.strip(), calls) for name, (reasoning, text, calls) in found.items()} == (
        dict.fromkeys(found, expected)
    )
