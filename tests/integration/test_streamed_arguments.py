"""Forced calls of a random model: the arguments are streamed as the grammar constrains them, in every API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anthropic
import jsonschema
import openai
import pytest

from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

QUESTION = "What is the capital of France?"


def schema(length: int) -> dict[str, Any]:
    city = {"type": "string", "minLength": length, "maxLength": length + 10}
    properties = {"city": city, "continent": {"enum": ["Europe", "Asia"]}}
    required = ["city", "continent"]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


class Streamed(NamedTuple):
    """The fragments of the arguments, those of the complete response, and the reason why it ended."""

    fragments: list[str]
    arguments: str
    reason: str | None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    command = ["--backend", "lm", "--model", str(folder), *FAST_BLAS]
    with running_server(*command, "--tool-call-parser", "hermes") as running:
        yield running


def chat(client: openai.OpenAI, claude: anthropic.Anthropic, length: int, max_tokens: int) -> Streamed:
    tools: Any = [{"type": "function", "function": {"name": "answer", "parameters": schema(length)}}]
    fragments: list[str] = []
    reason = None
    chunks = client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": QUESTION}],
        tools=tools,
        tool_choice={"type": "function", "function": {"name": "answer"}},
        max_tokens=max_tokens,
        stream=True,
    )
    for chunk in chunks:
        [choice] = chunk.choices
        reason = choice.finish_reason or reason
        calls = choice.delta.tool_calls or ()
        fragments += [call.function.arguments for call in calls if call.function and call.function.arguments]
    return Streamed(fragments, "".join(fragments), reason)


def responses(client: openai.OpenAI, claude: anthropic.Anthropic, length: int, max_tokens: int) -> Streamed:
    tools: Any = [{"type": "function", "name": "answer", "parameters": schema(length)}]
    with client.responses.stream(
        model="m",
        input=QUESTION,
        tools=tools,
        tool_choice={"type": "function", "name": "answer"},
        max_output_tokens=max_tokens,
    ) as stream:
        received = list(stream)
    fragments = [event.delta for event in received if event.type == "response.function_call_arguments.delta"]
    last = received[-1]
    assert last.type in ("response.completed", "response.incomplete")
    response = last.response
    [call] = response.output
    assert call.type == "function_call"
    assert call.status == response.status
    return Streamed(fragments, call.arguments, "length" if response.status == "incomplete" else "tool_calls")


def messages(client: openai.OpenAI, claude: anthropic.Anthropic, length: int, max_tokens: int) -> Streamed:
    with claude.messages.stream(
        model="m",
        messages=[{"role": "user", "content": QUESTION}],
        tools=[{"name": "answer", "input_schema": schema(length)}],
        tool_choice={"type": "tool", "name": "answer"},
        max_tokens=max_tokens,
    ) as stream:
        fragments = [event.partial_json for event in stream if event.type == "input_json" and event.partial_json]
        message = stream.get_final_message()
    [block] = message.content
    assert block.type == "tool_use"
    reason = {"tool_use": "tool_calls", "max_tokens": "length"}[message.stop_reason or ""]
    return Streamed(fragments, json.dumps(block.input), reason)


Ask = Callable[[openai.OpenAI, anthropic.Anthropic, int, int], Streamed]


@pytest.mark.parametrize("ask", [chat, responses, messages])
def test_forced_arguments_are_streamed(client: openai.OpenAI, claude: anthropic.Anthropic, ask: Ask) -> None:
    result = ask(client, claude, 100, 300)
    assert result.reason == "tool_calls"
    assert len(result.fragments) > 5
    arguments: Any = json.loads("".join(result.fragments))
    jsonschema.validate(arguments, schema(100))
    assert json.loads(result.arguments) == arguments


@pytest.mark.parametrize("ask", [chat, responses, messages])
def test_a_forced_call_that_is_cut_off(client: openai.OpenAI, claude: anthropic.Anthropic, ask: Ask) -> None:
    # The call has about 53 characters before the city, and each token has at least one.
    result = ask(client, claude, 5000, 90)
    assert result.reason == "length"
    assert "".join(result.fragments).startswith('{"city":')
    with pytest.raises(json.JSONDecodeError):
        json.loads("".join(result.fragments))
