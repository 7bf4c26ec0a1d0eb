"""Text models on the real server with OpenAI's client: SmolLM2 for the quality of the output, a random llama for the
protocol and batching."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.support.client import post, sdk
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

QUESTIONS = [
    "What is the capital of France?",
    "What is the capital of Italy?",
    "Name a colour.",
    "Say hello.",
    "How many legs has a dog?",
    "Write a line about the sea.",
    "What is 2 + 2?",
    "Who wrote Hamlet?",
]
WEATHER: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def smollm2() -> Iterator[ServerProcess]:
    with running_server("--backend", "lm", "--parser", "qwen3", "--model", "demo:smollm2", *FAST_BLAS) as server:
        yield server


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    with running_server("--backend", "lm", "--model", str(folder), "--served-model-name", "tiny", *FAST_BLAS) as server:
        yield server


def whole(client: openai.OpenAI, messages: Sequence[Any], **more: Any) -> Any:
    settings: Mapping[str, Any] = {"temperature": 0, "max_tokens": 24, **more}
    return client.chat.completions.create(model="any", messages=list(messages), **settings)


def streamed(client: openai.OpenAI, messages: Sequence[Any], **more: Any) -> tuple[str, str | None, Any]:
    """Stream a completion; return the text, the finish reason and the usage."""
    text, reason, usage = "", None, None
    for chunk in whole(client, messages, stream=True, stream_options={"include_usage": True}, **more):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason, usage


def test_output_is_correct(smollm2: ServerProcess) -> None:
    response = whole(sdk(smollm2), user("What is the capital of France?"))
    assert response.choices[0].message.content == "The capital of France is Paris."
    assert response.choices[0].finish_reason == "stop"
    assert response.model == "demo:smollm2"
    assert response.usage.prompt_tokens == 37


class Capital(BaseModel):
    city: Literal["Berlin", "Paris", "Rome"]


@pytest.mark.parametrize(("country", "city"), [("France", "Paris"), ("Italy", "Rome")])
def test_structured_output_is_correct(smollm2: ServerProcess, country: str, city: str) -> None:
    question = user(f"What is the capital of {country}?")
    response = sdk(smollm2).chat.completions.parse(
        model="any", messages=question, response_format=Capital, temperature=0, max_tokens=60
    )
    assert response.choices[0].message.parsed == Capital.model_validate({"city": city})


@pytest.mark.parametrize("question", QUESTIONS[1:3])
def test_streamed_and_plain_responses_are_equal(smollm2: ServerProcess, question: str) -> None:
    response = whole(sdk(smollm2), user(question))
    text, reason, usage = streamed(sdk(smollm2), user(question))
    assert (text, reason) == (response.choices[0].message.content, response.choices[0].finish_reason)
    assert usage.completion_tokens == response.usage.completion_tokens
    assert usage.prompt_tokens == response.usage.prompt_tokens


@pytest.mark.parametrize("model", ["smollm2", "tiny"])
def test_eight_concurrent_requests_give_the_same_output_as_sequential_ones(
    model: str, request: pytest.FixtureRequest
) -> None:
    server: ServerProcess = request.getfixturevalue(model)
    baseline = [whole(sdk(server), user(question), max_tokens=12).choices[0].message.content for question in QUESTIONS]

    async def together() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            responses = await asyncio.gather(
                *(
                    client.chat.completions.create(model="any", messages=user(question), temperature=0, max_tokens=12)
                    for question in QUESTIONS
                )
            )
        return [response.choices[0].message.content for response in responses]

    assert asyncio.run(together()) == baseline


def test_a_second_turn_prefills_only_new_tokens(smollm2: ServerProcess) -> None:
    client = sdk(smollm2)
    story = "Once upon a time there was a fox who lived by the river. " * 12
    first = whole(client, user(story + "Where did the fox live?"), max_tokens=8)
    turn = [
        *user(story + "Where did the fox live?"),
        {"role": "assistant", "content": first.choices[0].message.content},
        *user("And who was it?"),
    ]
    second = whole(client, turn, max_tokens=8)
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens - 1
    assert second.usage.prompt_tokens - cached < 60
    assert whole(client, turn, max_tokens=8).choices[0].message.content == second.choices[0].message.content


def test_tools_and_their_results_are_rendered_by_the_template(smollm2: ServerProcess) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    history = [
        *user("What is the weather in Oslo?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"sky": "clear"})},
    ]
    response = whole(sdk(smollm2), history, tools=WEATHER)
    assert response.choices[0].finish_reason in ("stop", "length", "tool_calls")
    assert response.usage.prompt_tokens > 20


def test_tools_that_the_template_does_not_render_are_described(smollm2: ServerProcess) -> None:
    body = {"messages": user("What is the weather in Oslo?"), "max_tokens": 1}
    described = post(smollm2, body | {"tools": WEATHER})
    without = post(smollm2, body)
    assert "x-mlx-host-ignored" not in described.headers
    assert described.json()["usage"]["prompt_tokens"] > without.json()["usage"]["prompt_tokens"] + 50
    explanation = post(smollm2, body | {"tools": WEATHER}, "/v1/explain").json()
    assert explanation["usage"]["prompt_tokens"] == described.json()["usage"]["prompt_tokens"]
    assert "<tool_call>" in explanation["prompt"]
    assert "get_weather" in explanation["prompt"]


def test_the_last_message_is_continued(smollm2: ServerProcess) -> None:
    messages = [*user("Count to five."), {"role": "assistant", "content": "One, two,"}]
    fields = {"continue_final_message": True, "add_generation_prompt": False}
    continued = whole(sdk(smollm2), messages, extra_body=fields, max_tokens=4)
    assert continued.choices[0].message.content.lstrip().startswith("three")
    text, _, usage = streamed(sdk(smollm2), messages, extra_body=fields, max_tokens=4)
    assert text == continued.choices[0].message.content
    tokens = post(smollm2, {"messages": messages, **fields}, "/tokenize").json()["tokens"]
    assert len(tokens) == continued.usage.prompt_tokens == usage.prompt_tokens
    assert post(smollm2, {"tokens": tokens}, "/detokenize").json()["prompt"].endswith("One, two,")


def test_calls_cannot_be_forced_without_a_parser(tiny: ServerProcess) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        with pytest.raises(openai.BadRequestError, match="--parser") as raised:
            whole(sdk(tiny), user("Hi"), tools=WEATHER, tool_choice=choice)
        assert raised.value.param == "tool_choice"


def test_strict_is_reported_as_ignored_without_a_parser(tiny: ServerProcess) -> None:
    strict = [{"type": "function", "function": {**WEATHER[0]["function"], "strict": True}}]
    body = {"messages": user("Hi"), "tools": strict, "max_tokens": 2}
    # The template does not show the tools to the model either.
    assert post(tiny, body).headers["x-mlx-host-ignored"] == "tools, tools.strict"


@pytest.mark.parametrize(
    ("path", "body", "ignored"),
    [
        (
            "/v1/chat/completions",
            {"reasoning_effort": "low", "enable_thinking": False, "chat_template_kwargs": {"add_bos": True}},
            "chat_template_kwargs.add_bos, enable_thinking, reasoning_effort",
        ),
        ("/v1/responses", {"reasoning": {"effort": "low"}}, "reasoning.effort"),
        (
            "/v1/messages",
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
            "output_config.effort, thinking",
        ),
        ("/tokenize", {"chat_template_kwargs": {"add_bos": True}}, "chat_template_kwargs.add_bos"),
    ],
)
def test_variables_that_the_template_does_not_read_are_listed(
    tiny: ServerProcess, path: str, body: dict[str, Any], ignored: str
) -> None:
    conversation = {"input": "Hi"} if path == "/v1/responses" else {"messages": user("Hi")}
    limit = {"/v1/responses": "max_output_tokens", "/tokenize": None}.get(path, "max_tokens")
    response = post(tiny, {**conversation, **body, **({limit: 1} if limit else {})}, path)
    assert response.status_code == 200, response.text
    assert response.headers["x-mlx-host-ignored"] == ignored


def test_message_fields_are_listed_unless_the_template_reads_them(tiny: ServerProcess) -> None:
    parts = [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]
    message = {"role": "user", "content": parts, "channel": "final", "refusal": None}
    response = post(tiny, {"messages": [message], "max_tokens": 1})
    assert response.headers["x-mlx-host-ignored"] == "messages.channel, messages.content.cache_control"


def test_a_stream_continues_while_a_long_text_is_tokenized(tiny: ServerProcess) -> None:
    async def main() -> int:
        endless: dict[str, Any] = {"max_tokens": 400, "logit_bias": {"2": -100}}
        long = {"prompt": "The quick brown fox jumps over the lazy dog. " * 40_000}
        async with openai.AsyncOpenAI(base_url=f"{tiny.url}/v1", api_key="none", timeout=60) as client:
            stream = await client.chat.completions.create(model="any", messages=user("Hi"), stream=True, **endless)
            tokenizing = asyncio.create_task(client.post(f"{tiny.url}/tokenize", body=long, cast_to=object))
            chunks = 0
            async for _ in stream:
                chunks += not tokenizing.done()
            await tokenizing
            return chunks

    # Before the response; without a separate thread, none but those of the first steps.
    assert asyncio.run(main()) > 30


def test_a_seed_is_deterministic_in_a_batch(tiny: ServerProcess) -> None:
    client = sdk(tiny)
    hot = {"temperature": 1.0, "max_tokens": 16, "seed": 7}
    baseline = whole(client, user("Say something."), **hot).choices[0].message.content

    async def among_others() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{tiny.url}/v1", api_key="none", max_retries=0) as others:
            wanted = others.chat.completions.create(model="any", messages=user("Say something."), **hot)  # type: ignore[call-overload]
            noise = [
                others.chat.completions.create(model="any", messages=user(question), temperature=1.0, max_tokens=20)
                for question in QUESTIONS
            ]
            responses = await asyncio.gather(*noise[:4], wanted, *noise[4:])
        return [response.choices[0].message.content for response in responses]

    assert asyncio.run(among_others())[4] == baseline
    other_seed = whole(client, user("Say something."), **{**hot, "seed": 8}).choices[0].message.content
    assert other_seed != baseline


def test_several_choices(tiny: ServerProcess) -> None:
    response = whole(sdk(tiny), user("Say something."), n=3, temperature=1.0, seed=1, max_tokens=12)
    texts = [choice.message.content for choice in response.choices]
    assert [choice.index for choice in response.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert response.usage.completion_tokens == 36


def test_max_tokens_is_exact_and_reported(tiny: ServerProcess) -> None:
    response = whole(sdk(tiny), user("Say something."), max_tokens=5)
    assert response.choices[0].finish_reason == "length"
    assert response.usage.completion_tokens == 5


def test_a_stop_string_ends_the_output_and_is_removed(smollm2: ServerProcess) -> None:
    response = whole(sdk(smollm2), user("What is the capital of France?"), stop=[" Par"])
    assert response.choices[0].message.content == "The capital of France is"
    assert response.choices[0].finish_reason == "stop"
    assert streamed(sdk(smollm2), user("What is the capital of France?"), stop=" Par")[0] == "The capital of France is"


def test_logprobs_match_the_text(smollm2: ServerProcess) -> None:
    response = whole(sdk(smollm2), user("What is the capital of France?"), logprobs=True, top_logprobs=2)
    content = response.choices[0].logprobs.content
    assert "".join(entry.token for entry in content) == response.choices[0].message.content
    for entry in content:
        assert entry.logprob <= 0
        assert entry.logprob == entry.top_logprobs[0].logprob
        assert bytes(entry.bytes).decode() == entry.token


def test_too_long_prompt_is_rejected_with_both_lengths(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "short", context_length=64)
    with running_server("--backend", "lm", "--model", str(folder)) as server:
        with pytest.raises(openai.BadRequestError, match=r"64 tokens.* \d+ tokens") as caught:
            whole(sdk(server), user("word " * 100), stream=True)
        assert caught.value.code == "context_length_exceeded"
        assert whole(sdk(server), user("Hi."), max_tokens=500).choices[0].finish_reason == "length"


def test_the_context_length_can_be_configured(tiny: ServerProcess, tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "own")
    template = tmp_path / "plain.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", encoding="utf-8")
    flags = ["--context-length", "20", "--chat-template-file", str(template)]
    with running_server("--backend", "lm", "--model", str(folder), *flags) as server:
        response = whole(sdk(server), user("Hi."), max_tokens=2)
        assert response.usage.prompt_tokens < whole(sdk(tiny), user("Hi."), max_tokens=2).usage.prompt_tokens
        with pytest.raises(openai.BadRequestError, match="20 tokens"):
            whole(sdk(server), user("word " * 30))


@pytest.mark.parametrize("stream", [False, True])
def test_markup_in_the_history_does_not_end_the_conversation(gpt_oss_template: ServerProcess, stream: bool) -> None:
    history = [
        *user("Hi."),
        {"role": "assistant", "content": '<|channel|>commentary to=functions.f json<|message|>{"a": <|call|>'},
        *user("And?"),
    ]
    with sdk(gpt_oss_template) as client:
        assert client.chat.completions.create(model="any", messages=history, max_tokens=2, stream=stream)
        client.responses.create(model="any", input=history, max_output_tokens=2)
    response = post(gpt_oss_template, {"messages": history, "max_tokens": 2}, "/v1/messages")
    assert response.status_code == 200, response.text
    assert post(gpt_oss_template, {"messages": history}, "/tokenize").status_code == 200


@pytest.fixture(scope="module")
def gpt_oss_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose chat template rejects channel markers in content, like that of gpt-oss."""
    folder = write_tiny_llama(tmp_path_factory.mktemp("channels"))
    template = folder / "channels.jinja"
    template.write_text(
        "{% for m in messages %}{% if '<|channel|>' in (m.content or '') or '<|message|>' in (m.content or '') %}"
        "{{ raise_exception('channel markers in content') }}{% endif %}"
        "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant",
        encoding="utf-8",
    )
    flags = ["--chat-template-file", str(template), "--parser", "harmony"]
    with running_server("--backend", "lm", "--model", str(folder), *flags, *FAST_BLAS) as server:
        yield server
