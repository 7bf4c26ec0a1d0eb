"""Constrained output for prompts with images, in a batch with unconstrained requests."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import jsonschema
import pytest
from mlx_host.errors import InvalidRequestError
from mlx_host.grammar import FixedConstraint, Grammar, JsonValue, Pattern
from mlx_host.requests import ChatRequest, Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import chat_request, generate, generate_one
from tests.support.media import look

SEEDED = Sampling(temperature=1.0, seed=11)
COUNT = {
    "type": "object",
    "properties": {"colours": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2}},
    "required": ["colours"],
    "additionalProperties": False,
}


def constrained(grammar: Grammar, *images: int) -> ChatRequest:
    request = chat_request(look(*images, text="Which colours?"), sampling=SEEDED, max_tokens=40)
    return replace(request, constraint=FixedConstraint(grammar))


def test_constrained_and_unconstrained_requests_share_a_batch(gemma: TextModel) -> None:
    assert gemma.supports_structured_outputs
    requests = [
        constrained(JsonValue(COUNT), 1),
        chat_request(look(2, text="What is it?"), sampling=SEEDED, max_tokens=12),
        constrained(Pattern("[a-c]{10}"), 3),
        replace(chat_request("No image.", sampling=SEEDED), constraint=FixedConstraint(Pattern("yes|no"))),
    ]
    alone = [generate_one(gemma, request).text for request in requests]
    together = generate(gemma, *requests)
    assert [output.text for output in together] == alone
    assert together[0].reason == "stop"
    jsonschema.validate(json.loads(together[0].text), COUNT)
    assert re.fullmatch("[a-c]{10}", together[2].text)
    assert together[3].text in ("yes", "no")


def test_an_unsupported_schema_is_rejected(gemma: TextModel) -> None:
    with pytest.raises(InvalidRequestError, match="uniqueItems"):
        generate_one(gemma, constrained(JsonValue({"uniqueItems": True}, "response_format"), 1))
