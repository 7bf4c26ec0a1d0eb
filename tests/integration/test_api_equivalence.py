"""One model behind every API: the same output and the same token counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.support.client import error_of, post
from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

SYSTEM = "You know little and write a lot about it."
QUESTION = "What is the capital of France?"
MESSAGES: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
TOOLS: list[Any] = [{"name": "get_weather", "description": "Returns the weather.", "input_schema": {"type": "object"}}]
LENGTH = 24
MODEL: dict[str, Any] = {"model": "tiny"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"), context_length=512)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with running_server("--backend", "lm", "--model", str(folder), "--temperature", "0", *FAST_BLAS) as running:
        yield running


def prompt_tokens(message: anthropic.types.Message) -> int:
    """The tokens of the prompt, of which Anthropic's API counts the cached ones separately."""
    return message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)


def test_output_and_usage_are_equal_in_every_api(
    server: ServerProcess, client: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    chat = client.chat.completions.create(**MODEL, messages=MESSAGES, max_tokens=LENGTH)
    tokens = post(server, {"messages": MESSAGES}, "/tokenize").json()
    legacy = client.completions.create(**MODEL, prompt=tokens["tokens"], max_tokens=LENGTH)
    text = post(server, {"tokens": tokens["tokens"]}, "/detokenize").json()["prompt"]
    as_text = client.completions.create(**MODEL, prompt=text, max_tokens=LENGTH)
    response = client.responses.create(**MODEL, instructions=SYSTEM, input=QUESTION, max_output_tokens=LENGTH)
    user: Any = {"role": "user", "content": QUESTION}
    message = claude.messages.create(**MODEL, system=SYSTEM, messages=[user], max_tokens=LENGTH)
    with claude.messages.stream(**MODEL, system=SYSTEM, messages=[user], max_tokens=LENGTH) as stream:
        streamed = stream.get_final_message()

    content = chat.choices[0].message.content
    assert content
    assert legacy.choices[0].text == as_text.choices[0].text == response.output_text == content
    for each in (message, streamed):
        assert [block.to_dict()["text"] for block in each.content] == [content]
    assert chat.usage is not None
    counts = [(chat.usage.prompt_tokens, chat.usage.completion_tokens)]
    for legacy_usage in (legacy.usage, as_text.usage):
        assert legacy_usage is not None
        counts.append((legacy_usage.prompt_tokens, legacy_usage.completion_tokens))
    assert response.usage is not None
    counts.append((response.usage.input_tokens, response.usage.output_tokens))
    counts += [(prompt_tokens(each), each.usage.output_tokens) for each in (message, streamed)]
    assert set(counts) == {(tokens["count"], LENGTH)}
    assert tokens["max_model_len"] == 512


@pytest.mark.parametrize(
    "prompt",
    [
        {"messages": [{"role": "user", "content": QUESTION}]},
        {"messages": [{"role": "user", "content": QUESTION}], "system": SYSTEM, "tools": TOOLS},
        {"messages": [{"role": "user", "content": QUESTION}], "tools": TOOLS, "tool_choice": {"type": "none"}},
    ],
)
def test_counted_tokens_equal_the_usage(claude: anthropic.Anthropic, prompt: dict[str, Any]) -> None:
    count = claude.messages.count_tokens(**MODEL, **prompt).input_tokens
    assert count == prompt_tokens(claude.messages.create(**MODEL, **prompt, max_tokens=1))


def test_too_long_conversation_is_counted_and_rejected(claude: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "word " * 600}]
    count = claude.messages.count_tokens(**MODEL, messages=messages).input_tokens
    assert count > 512
    with pytest.raises(anthropic.BadRequestError, match=f"prompt is too long: {count} tokens > 512 maximum"):
        claude.messages.create(**MODEL, messages=messages, max_tokens=1)


def test_a_full_context_and_max_tokens_have_different_stop_reasons(claude: anthropic.Anthropic) -> None:
    messages: list[Any] = [{"role": "user", "content": "word " * 450}]
    message = claude.messages.create(**MODEL, messages=messages, max_tokens=500)
    assert message.stop_reason == "model_context_window_exceeded"
    assert prompt_tokens(message) + message.usage.output_tokens == 512


def test_an_image_is_rejected_by_a_text_only_model(server: ServerProcess) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": [image]}]}
    error = post(server, body, "/v1/messages")
    assert error.status_code == 400
    assert "--backend vlm" in error.json()["error"]["message"]


def cached(server: ServerProcess, counter: int, system: str) -> tuple[int, int]:
    """The numbers of cached tokens and of all tokens of a prompt; `counter` makes it unique."""
    header = {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2.1; cch={counter:05x};"}
    body = {
        "max_tokens": 1,
        "system": [header, {"type": "text", "text": system}],
        "messages": [{"role": "user", "content": f"Question {counter}"}],
    }
    usage = post(server, body, "/v1/messages").json()["usage"]
    cached_tokens: int = usage["cache_read_input_tokens"]
    return cached_tokens, cached_tokens + usage["input_tokens"]


def test_unique_values_in_prompts_do_not_prevent_cache_hits(server: ServerProcess, folder: Path) -> None:
    system = "Some rules. " * 30
    assert cached(server, 1, system)[0] < 40
    reused, length = cached(server, 2, system)
    assert length - 20 < reused < length
    options = ("--backend", "lm", "--model", str(folder), *FAST_BLAS)
    with running_server(*options, env={"MLX_HOST_MESSAGES_CANONICAL": "off"}) as as_they_come:
        cached(as_they_come, 1, system)
        reused, longer = cached(as_they_come, 2, system)
        assert longer > length
        assert reused < 40


def test_prompt_logprobs_equal_those_of_the_same_tokens_generated(client: openai.OpenAI) -> None:
    prompt = "Once upon a time"
    choice = client.completions.create(**MODEL, prompt=prompt, max_tokens=8, logprobs=3).choices[0]
    whole = client.completions.create(**MODEL, prompt=prompt + choice.text, max_tokens=0, echo=True, logprobs=3)
    scored = whole.choices[0].logprobs
    made = choice.logprobs
    assert whole.choices[0].text == prompt + choice.text
    assert made is not None
    assert scored is not None
    # Random text is rarely tokenized as it was generated; where it is, the log probabilities must be equal.
    start = len(scored.tokens or ()) - len(made.tokens or ())
    assert (scored.tokens or [])[start:] == made.tokens
    assert (scored.token_logprobs or [])[start:] == pytest.approx(made.token_logprobs, abs=1e-3)
    for before, after in zip(made.top_logprobs or (), (scored.top_logprobs or [])[start:], strict=True):
        assert after == pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [49152]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**30]}, "prompt"),
        ({"prompt": "word " * 600}, "prompt"),
        ({"prompt": "a", "logit_bias": {"49152": 1}}, "logit_bias"),
    ],
)
def test_invalid_prompts_are_rejected(server: ServerProcess, body: dict[str, Any], param: str) -> None:
    assert error_of(post(server, body, "/v1/completions"), 400)["param"] == param


def test_token_ids_out_of_range_are_rejected(server: ServerProcess) -> None:
    assert error_of(post(server, {"tokens": [49152]}, "/detokenize"), 400)["param"] == "tokens"
    text = httpx2.post(f"{server.url}/tokenize", json={"prompt": "naïve 🦊", "return_token_strs": True}).json()
    assert post(server, {"tokens": text["tokens"]}, "/detokenize").json() == {"prompt": "naïve 🦊"}
    assert len(text["token_strs"]) == text["count"]
