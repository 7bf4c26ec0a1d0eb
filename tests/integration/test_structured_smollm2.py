"""Structured outputs of a real model over HTTP, with sixty schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import httpx2
import jsonschema
import pytest

from tests.plugins.text.json_schemas import SCHEMAS, closed
from tests.support.client import CHAT
from tests.support.server import FAST_BLAS, ServerProcess, running_server

PROMPTS = ["Answer in JSON.", "Who was Ada Lovelace?"]
PERSON = closed(name={"type": "string", "maxLength": 30}, born={"type": "integer", "minimum": 1700, "maximum": 2000})
AT_ONCE = 32


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--backend", "lm", "--model", "demo:smollm2", *FAST_BLAS) as running:
        yield running


def ask(server: ServerProcess, prompt: str, schema: Any, **more: Any) -> tuple[str, str]:
    """Request a completion; return the text and the finish_reason."""
    body = {
        "model": "demo:smollm2",
        "messages": [{"role": "user", "content": prompt}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        **more,
    }
    response = httpx2.post(f"{server.url}{CHAT}", json=body, timeout=300)
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def test_every_finished_output_is_valid(server: ServerProcess) -> None:
    cases = list(product(SCHEMAS, PROMPTS))

    def answered(case: tuple[str, str]) -> tuple[str, str]:
        name, prompt = case
        return ask(server, prompt, SCHEMAS[name], temperature=1, seed=len(name), max_tokens=20)

    with ThreadPoolExecutor(AT_ONCE) as clients:
        responses = list(clients.map(answered, cases))
    finished = 0
    for (name, _), (text, reason) in zip(cases, responses, strict=True):
        assert reason in ("stop", "length")
        if reason == "stop":
            validator = jsonschema.validators.validator_for(SCHEMAS[name], jsonschema.Draft202012Validator)
            validator(SCHEMAS[name], format_checker=validator.FORMAT_CHECKER).validate(json.loads(text))
            finished += 1
    assert finished > len(cases) * 0.5


def test_values_are_correct(server: ServerProcess) -> None:
    question = "When was the mathematician Ada Lovelace born? Answer in JSON with her name and the year."
    text, reason = ask(server, question, PERSON, temperature=0, max_tokens=40)
    assert reason == "stop"
    output = json.loads(text)
    jsonschema.validate(output, PERSON)
    assert "Lovelace" in output["name"]
