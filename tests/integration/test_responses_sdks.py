"""POST /v1/responses with old and new SDKs, agents and JavaScript clients, each in a separate environment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.core.api.test_responses import RESPONSES
from tests.support.client import error_of, post, sdk
from tests.support.command import environment
from tests.support.plugin_projects import uv
from tests.support.server import FAST_BLAS, ServerProcess, running_server

# A tool's result is the last message, so it is the script of the next response.
SHARED = """
import json, os
URL = os.environ["OPENAI_BASE_URL"]
THINKS = "<think>" + "Hm." + "</think>"
CALL = '<tool_call>' + json.dumps({"name": "get_weather", "arguments": {"city": "Oslo"}}) + '</tool_call>'
START = json.dumps([["text", THINKS], ["text", "Let me "], ["text", "look."], ["text", CALL]])
SUNNY = json.dumps([["text", "It is "], ["text", "sunny."]])
"""

OPENAI = """
import openai
client = openai.OpenAI(max_retries=0)
assert openai.__version__ == os.environ["EXPECTED"]
tools = [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": True}]
first = client.responses.create(model="m", input=START, instructions="Be brief.", tools=tools)
assert [item.type for item in first.output] == ["reasoning", "message", "function_call"]
assert first.output_text.strip() == "Let me look."
assert json.loads(first.output[2].arguments) == {"city": "Oslo"}
assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens
result = {"type": "function_call_output", "call_id": first.output[2].call_id, "output": SUNNY}
with client.responses.stream(model="m", input=[result], previous_response_id=first.id, tools=tools) as stream:
    deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
    final = stream.get_final_response()
assert "".join(deltas) == final.output_text == "It is sunny."
again = client.responses.create(model="m", input=[{"role": "user", "content": "x"}, *first.output, result])
assert again.output_text == "It is sunny."
with client.responses.stream(model="m", input=START, tools=tools) as stream:
    assert [item.type for item in stream.get_final_response().output] == ["reasoning", "message", "function_call"]
assert client.responses.retrieve(final.id).output_text == "It is sunny."
assert len(list(client.responses.input_items.list(final.id))) == 5
client.responses.delete(final.id)
try:
    client.responses.retrieve(final.id)
except openai.NotFoundError:
    pass
else:
    raise AssertionError
"""

AGENTS = """
import asyncio
from agents import Agent, Runner, function_tool, set_tracing_disabled
set_tracing_disabled(True)
cities = []

@function_tool
def get_weather(city: str) -> str:
    cities.append(city)
    return SUNNY

agent = Agent(name="a", instructions="Be brief.", model="m", tools=[get_weather])

async def main():
    assert (await Runner.run(agent, START)).final_output == "It is sunny."
    streamed = Runner.run_streamed(agent, START)
    async for event in streamed.stream_events():
        pass
    assert streamed.final_output == "It is sunny."

asyncio.run(main())
assert cities == ["Oslo", "Oslo"]
"""

PYDANTIC_AI = """
import asyncio
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
cities = []
agent = Agent(OpenAIResponsesModel("m"), instructions="Be brief.")

@agent.tool_plain
def get_weather(city: str) -> str:
    cities.append(city)
    return SUNNY

async def main():
    run = await agent.run(START)
    assert run.output == "It is sunny."
    assert [part.content for message in run.all_messages() for part in message.parts if part.part_kind == "thinking"]
    async with agent.run_stream(SUNNY, message_history=run.all_messages()) as stream:
        assert await stream.get_output() == "It is sunny."

asyncio.run(main())
assert cities == ["Oslo"]
"""

JAVASCRIPT = """
import assert from "node:assert/strict";
import OpenAI from "openai";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const call = "<tool_call>" + JSON.stringify({ name: "get_weather", arguments: { city: "Oslo" } }) + "</tool_call>";
const start = JSON.stringify([["text", "<think>Hm.</think>"], ["text", "Let me look."], ["text", call]]);
const sunny = JSON.stringify([["text", "It is "], ["text", "sunny."]]);

const client = new OpenAI({ maxRetries: 0 });
const tools = [{ type: "function", name: "get_weather", parameters: {}, strict: false }];
const first = await client.responses.create({ model: "m", input: start, tools });
assert.equal(first.output.length, 3);
const stream = client.responses.stream({ model: "m", input: sunny, previous_response_id: first.id });
assert.equal((await stream.finalResponse()).output_text, "It is sunny.");

const model = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: "none" })("m");
const cities = [];
const get_weather = tool({
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => { cities.push(city); return sunny; },
});
const options = { model, tools: { get_weather }, stopWhen: stepCountIs(3), prompt: start, maxRetries: 0 };
assert.equal((await generateText(options)).text, "It is sunny.");
const streamed = streamText({ ...options, onError: ({ error }) => { throw error; } });
assert.equal(await streamed.text, "It is sunny.");
assert.deepEqual(cities, ["Oslo", "Oslo"]);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "scripted", "--parser", "qwen3") as running:
        yield running


def run(command: list[str], server: ServerProcess, folder: Path, expected: str = "") -> None:
    """Run a client to its end."""
    # Disable telemetry.
    quiet = {"OPENAI_AGENTS_DISABLE_TRACING": "1", "DO_NOT_TRACK": "1", "AI_SDK_LOG_WARNINGS": "false"}
    where = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "none", "EXPECTED": expected}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment({**quiet, **where}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("openai==1.109.1", OPENAI),
        ("openai==2.54.0", OPENAI),
        ("openai-agents==0.24.0", AGENTS),
        ("pydantic-ai-slim[openai]==2.38.0", PYDANTIC_AI),
    ],
)
def test_python_clients(server: ServerProcess, tmp_path: Path, package: str, source: str) -> None:
    (tmp_path / "client.py").write_text(SHARED + source)
    isolated = [uv(), "run", "--quiet", "--isolated", "--no-project", "--with", package]
    run([*isolated, "python", "client.py"], server, tmp_path, package.rpartition("==")[2])


def test_javascript_clients(server: ServerProcess, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("needs npm and node")
    (tmp_path / "client.mjs").write_text(JAVASCRIPT)
    packages = ["openai@6", "ai@6", "@ai-sdk/openai@3", "zod@4"]
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--prefix", str(tmp_path)]
    run([npm, "install", *options, *packages], server, tmp_path)
    run([node, "client.mjs"], server, tmp_path)


def test_the_installed_sdk(server: ServerProcess, tmp_path: Path) -> None:
    source = SHARED + OPENAI
    (tmp_path / "client.py").write_text(source)
    run([sys.executable, "client.py"], server, tmp_path, openai.__version__)


@pytest.fixture(scope="module")
def smollm2() -> Iterator[ServerProcess]:
    with running_server("--backend", "lm", "--parser", "qwen3", "--model", "demo:smollm2", *FAST_BLAS) as running:
        yield running


def test_output_of_a_real_model_is_equal_in_both_apis(smollm2: ServerProcess) -> None:
    system, question = "You are a helpful assistant.", "What is the capital of France?"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    greedy = {"temperature": 0, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
    chat = post(smollm2, {"messages": messages, **greedy}).json()
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    body = {"instructions": system, "input": question, "temperature": 0, "tools": tools}
    response = post(smollm2, body, RESPONSES).json()
    text = response["output"][0]["content"][0]["text"]
    assert "Paris" in text
    assert text == chat["choices"][0]["message"]["content"]
    assert [response["usage"][key] for key in ("input_tokens", "output_tokens")] == [
        chat["usage"][key] for key in ("prompt_tokens", "completion_tokens")
    ]
    with sdk(smollm2) as client:
        follow_up = "And of Italy?"
        more = client.responses.create(
            model="m", input=follow_up, previous_response_id=response["id"], instructions=system, temperature=0
        )
    again = [*messages, {"role": "assistant", "content": text}, {"role": "user", "content": follow_up}]
    chat = post(smollm2, {"messages": again, "temperature": 0}).json()
    assert more.output_text == chat["choices"][0]["message"]["content"]
    assert more.usage is not None
    assert more.usage.input_tokens == chat["usage"]["prompt_tokens"]


def test_custom_tools_and_compaction_with_a_real_model(smollm2: ServerProcess) -> None:
    format = {"type": "grammar", "syntax": "regex", "definition": "[0-9]{2}:[0-9]{2}"}
    tools: Any = [{"type": "custom", "name": "set_alarm", "format": format}]
    with sdk(smollm2) as client:
        choices: list[Any] = [{"type": "custom", "name": "set_alarm"}, "required"]
        for choice in choices:
            response = client.responses.create(
                model="m", input="Wake me up at seven.", tools=tools, tool_choice=choice, max_output_tokens=60
            )
            (call,) = [item for item in response.output if item.type == "custom_tool_call"][:1]
            assert re.fullmatch(format["definition"], call.input)
        long: Any = [
            {"role": "user", "content": "We meet on Tuesday. " * 110},
            {"role": "assistant", "content": "Yes."},
        ]
        compacted: Any = client.responses.compact(model="m", input=long, extra_body={"max_output_tokens": 8})
        assert compacted.usage.output_tokens > 0
        again = [*compacted.to_dict()["output"], {"role": "user", "content": "When?"}]
        counted = client.responses.input_tokens.count(model="m", input=again).input_tokens
        assert 20 < counted < client.responses.input_tokens.count(model="m", input=long).input_tokens
    assert error_of(post(smollm2, {"input": long}, f"{RESPONSES}/compact"), 400)["param"] == "model"


def test_images_for_a_text_model(smollm2: ServerProcess) -> None:
    image = {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}
    error = error_of(post(smollm2, {"input": [image], "max_output_tokens": 1}, RESPONSES), 400)
    assert "input[0].content[0] is of type 'input_image'" in error["message"]
    assert error["param"] == "input"
    question = {"role": "user", "content": "What is the capital of France?"}
    for items in ([image, question], [question, {"role": "assistant", "content": "Paris."}, image, question]):
        response = post(smollm2, {"input": items, "max_output_tokens": 1}, RESPONSES)
        assert (response.status_code, response.headers["x-mlx-host-ignored"]) == (200, "input.content.input_image")


def test_counted_tokens_equal_the_usage(smollm2: ServerProcess) -> None:
    with sdk(smollm2) as client:
        asked: Any = {
            "model": "m",
            "instructions": "Be brief.",
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}],
        }
        first = client.responses.create(**asked, input="Hello", max_output_tokens=4)
        assert first.usage is not None
        assert client.responses.input_tokens.count(**asked, input="Hello").input_tokens == first.usage.input_tokens
        counted = client.responses.input_tokens.count(**asked, input="More", previous_response_id=first.id)
        second = client.responses.create(**asked, input="More", previous_response_id=first.id, max_output_tokens=1)
        assert second.usage is not None
        assert counted.input_tokens == second.usage.input_tokens
    body = {"input": "x", "temperature": 0, "truncation": "auto"}
    counting = post(smollm2, body, f"{RESPONSES}/input_tokens")
    assert counting.json()["object"] == "response.input_tokens"
    assert counting.headers["x-mlx-host-ignored"] == "temperature, truncation"
    assert error_of(post(smollm2, {}, f"{RESPONSES}/input_tokens"), 400)["param"] == "input"
