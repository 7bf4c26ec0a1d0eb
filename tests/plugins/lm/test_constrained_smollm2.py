"""A real model held to sixty schemas, at temperature 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product

import jsonschema
import pytest
from mlx_host.grammar import Form, JsonValue
from mlx_host.requests import ChatRequest, Sampling
from mlx_host_demo.plugin import resolve_source
from mlx_host_lm.model import LanguageModel

from tests.plugins.lm.driver import answer, ask, load, no_progress
from tests.plugins.lm.schemas import SCHEMAS, closed

PROMPTS = ["Answer in JSON.", "Who was Ada Lovelace?"]
PERSON = closed(name={"type": "string", "maxLength": 30}, born={"type": "integer", "minimum": 1700, "maximum": 2000})


@pytest.fixture(scope="module")
def smollm2() -> Iterator[LanguageModel]:
    source = resolve_source("demo:smollm2")
    assert source is not None
    model = load(source.fetch(no_progress))
    yield model
    model.close()


def held(name: str, prompt: str) -> ChatRequest:
    return ask(
        prompt,
        sampling=Sampling(temperature=1.0, seed=len(name)),
        max_tokens=24,
        constraint=Form(JsonValue(SCHEMAS[name])),
    )


def test_every_finished_answer_validates(smollm2: LanguageModel) -> None:
    cases = list(product(SCHEMAS, PROMPTS))
    finished = 0
    for start in range(0, len(cases), 32):
        several = cases[start : start + 32]
        answers = answer(smollm2, *(held(*case) for case in several))
        for (name, _), answered in zip(several, answers, strict=True):
            if answered.reason == "stop":
                validator = jsonschema.validators.validator_for(SCHEMAS[name], jsonschema.Draft202012Validator)
                checked = validator(SCHEMAS[name], format_checker=validator.FORMAT_CHECKER)
                checked.validate(json.loads(answered.text))
                finished += 1
    assert finished > len(cases) * 0.6


def test_it_knows_what_it_puts_into_the_form(smollm2: LanguageModel) -> None:
    question = "When was the mathematician Ada Lovelace born? Answer in JSON with her name and the year."
    (answered,) = answer(smollm2, ask(question, max_tokens=40, constraint=Form(JsonValue(PERSON))))
    assert answered.reason == "stop"
    said = json.loads(answered.text)
    jsonschema.validate(said, PERSON)
    assert "Lovelace" in said["name"]
