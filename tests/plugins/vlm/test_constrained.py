"""Answers about pictures that are held to a form, in a batch with free ones."""

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

from tests.plugins.lm.driver import answer, answer_one, ask
from tests.support.media import look

SEEDED = Sampling(temperature=1.0, seed=11)
COUNT = {
    "type": "object",
    "properties": {"colours": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2}},
    "required": ["colours"],
    "additionalProperties": False,
}


def held(grammar: Grammar, *pictures: int) -> ChatRequest:
    request = ask(look(*pictures, text="Which colours?"), sampling=SEEDED, max_tokens=40)
    return replace(request, constraint=FixedConstraint(grammar))


def test_constrained_and_free_answers_share_a_batch(gemma: TextModel) -> None:
    assert gemma.supports_structured_outputs
    requests = [
        held(JsonValue(COUNT), 1),
        ask(look(2, text="What is it?"), sampling=SEEDED, max_tokens=12),
        held(Pattern("[a-c]{10}"), 3),
        replace(ask("No picture.", sampling=SEEDED), constraint=FixedConstraint(Pattern("yes|no"))),
    ]
    alone = [answer_one(gemma, one).text for one in requests]
    together = answer(gemma, *requests)
    assert [answered.text for answered in together] == alone
    assert together[0].reason == "stop"
    jsonschema.validate(json.loads(together[0].text), COUNT)
    assert re.fullmatch("[a-c]{10}", together[2].text)
    assert together[3].text in ("yes", "no")


def test_what_cannot_be_kept_is_refused(gemma: TextModel) -> None:
    with pytest.raises(InvalidRequestError, match="uniqueItems"):
        answer_one(gemma, held(JsonValue({"uniqueItems": True}, "response_format"), 1))
