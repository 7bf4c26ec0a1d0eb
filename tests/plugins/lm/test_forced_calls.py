"""Forced tool calls of a random model, in the format of every installed parser family, conform to the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from mlx_host._cli import discover
from mlx_host.parsing import OutputConstraint, Parser, ToolCall, ToolChoice
from mlx_host.requests import ChatRequest, Json, Sampling
from mlx_host_text.model import TextModel

from tests.parsers.feeding import read
from tests.plugins.lm.driver import chat_request, generate, load
from tests.plugins.text.json_schemas import closed
from tests.support.tiny_llama import END_OF_TURN

# Families without a tool-call format.
WITHOUT_CALLS = {"deepseek_r1"}
PARAMETERS = closed(
    colour={"enum": ["red", "dark blue"]},
    count={"type": "integer", "minimum": 0, "maximum": 99},
    label={"type": "string", "minLength": 2, "maxLength": 6},
)
TOOLS: list[Json] = [
    {"type": "function", "function": {"name": name, "description": "Paints.", "parameters": PARAMETERS}}
    for name in ("paint", "paint_all")
]


@cache
def families() -> dict[str, type[Parser]]:
    found = {parser.name: parser for parser in discover().parsers.found.values()}
    return {name: parser for name, parser in found.items() if name not in WITHOUT_CALLS}


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> Iterator[TextModel]:
    model = load(tiny_llama)
    yield model
    model.close()


def forced(family: str, choice: ToolChoice) -> ChatRequest:
    return chat_request(
        f"Paint it, {family}.",
        # End the turn where the grammar allows it most of the time; some outputs have several calls.
        sampling=Sampling(temperature=1.0, logit_bias={END_OF_TURN: 6.0}),
        max_tokens=400,
        tools=TOOLS,
        tool_choice="required",
        constraint=OutputConstraint(None, families()[family], TOOLS, choice),
    )


def check(family: str, text: str) -> None:
    parts = [part for parts in read(families()[family], [text], tools=tuple(TOOLS)) for part in parts]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    assert calls, (family, text)
    for call in calls:
        assert call.name in ("paint", "paint_all"), (family, text)
        jsonschema.validate(json.loads(call.arguments), PARAMETERS)


def test_forced_calls_of_all_families_conform_to_their_schema(llama: TextModel) -> None:
    # In one or two batches, because the random model is slow: forced text is generated character by character.
    cases = [
        (family, choice)
        for choice in (ToolChoice(required=True, parallel=False), ToolChoice(required=True))
        for family in sorted(families())
    ]
    finished: dict[str, int] = dict.fromkeys(families(), 0)
    for start in range(0, len(cases), 32):
        batch = cases[start : start + 32]
        for (family, _), output in zip(batch, generate(llama, *(forced(*case) for case in batch)), strict=True):
            if output.reason == "stop":
                check(family, output.text)
                finished[family] += 1
    assert all(finished.values()), finished
