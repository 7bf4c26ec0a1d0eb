"""Client libraries for structured output, unmodified, with a random model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import instructor
import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.support.server import FAST_BLAS, ServerProcess, running_server
from tests.support.tiny_llama import write_tiny_llama

QUESTION = "What is the capital of France?"


class Capital(BaseModel):
    """The capital of a country."""

    model_config = ConfigDict(extra="forbid")

    country: str = Field(max_length=12)
    city: Literal["Paris", "Rome", "Berlin"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    command = ["--backend", "lm", "--model", str(folder), *FAST_BLAS]
    with running_server(*command, "--tool-call-parser", "hermes") as running:
        yield running


@pytest.mark.parametrize(
    "mode",
    [
        instructor.Mode.TOOLS,
        instructor.Mode.JSON_SCHEMA,
        instructor.Mode.RESPONSES_TOOLS,
    ],
)
def test_instructor(client: openai.OpenAI, mode: instructor.Mode) -> None:
    asking = instructor.from_openai(client, mode=mode)
    limit: dict[str, Any] = {"max_output_tokens" if "RESPONSES" in mode.name else "max_tokens": 200}
    response = asking.create(
        model="m", response_model=Capital, messages=[{"role": "user", "content": QUESTION}], max_retries=0, **limit
    )
    assert isinstance(response, Capital)


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA])
def test_instructor_streams(client: openai.OpenAI, mode: instructor.Mode) -> None:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    asking = instructor.from_openai(client, mode=mode)
    parts = list(asking.create_partial(model="m", response_model=Capital, messages=messages, max_tokens=200))
    Capital.model_validate(parts[-1].model_dump())


@pytest.mark.parametrize("speaks", [OpenAIChatModel, OpenAIResponsesModel])
@pytest.mark.parametrize("output", [Capital, NativeOutput(Capital)], ids=["tool", "native"])
@pytest.mark.parametrize("stream", [False, True])
def test_pydantic_ai(server: ServerProcess, speaks: Any, output: Any, stream: bool) -> None:
    async def ask() -> Any:
        model = speaks("m", provider=OpenAIProvider(base_url=f"{server.url}/v1", api_key="none"))
        agent: Any = Agent(model, output_type=output, model_settings={"max_tokens": 200})
        async with agent:
            if not stream:
                return (await agent.run(QUESTION)).output
            async with agent.run_stream(QUESTION) as response:
                return await response.get_output()

    assert isinstance(asyncio.run(ask()), Capital)
