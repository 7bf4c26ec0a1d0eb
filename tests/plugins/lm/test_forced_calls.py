"""Forced calls, written by a random model in the format of every installed family and read by its parser."""

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
from mlx_host_lm.model import LanguageModel

from tests.parsers.feeding import read
from tests.plugins.lm.driver import answer, ask, load
from tests.plugins.lm.schemas import closed
from tests.support.tiny_llama import END_OF_TURN

# It has no format for calls.
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
def llama(tiny_llama: Path) -> Iterator[LanguageModel]:
    model = load(tiny_llama)
    yield model
    model.close()


def forced(family: str, choice: ToolChoice) -> ChatRequest:
    return ask(
        f"Paint it, {family}.",
        # Where it may end, it mostly does: some make several calls.
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


def test_forced_calls_of_all_families_are_made_and_conform(llama: LanguageModel) -> None:
    """In one batch, or two: the random model writes what is fixed letter by letter, and takes its time."""
    cases = [
        (family, choice)
        for choice in (ToolChoice(required=True, parallel=False), ToolChoice(required=True))
        for family in sorted(families())
    ]
    finished: dict[str, int] = dict.fromkeys(families(), 0)
    for start in range(0, len(cases), 32):
        several = cases[start : start + 32]
        for (family, _), answered in zip(several, answer(llama, *(forced(*case) for case in several)), strict=True):
            if answered.reason == "stop":
                check(family, answered.text)
                finished[family] += 1
    assert all(finished.values()), finished
