"""Answers of a random model held to a form: what is said obeys, and nobody else in the batch notices."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mlx_host._cli import discover
from mlx_host.errors import InvalidRequestError
from mlx_host.events import Logprobs, Tokenized
from mlx_host.grammar import (
    Constraint,
    FixedConstraint,
    FreeText,
    Grammar,
    JsonValue,
    LarkGrammar,
    Pattern,
    TextThrough,
    chain,
    one_of,
)
from mlx_host.parsing import OutputConstraint
from mlx_host.requests import ChatRequest, CompletionRequest, Sampling, TokenizeRequest
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import GREEDY, Answered, Round, answer, answer_one, ask, ids, load
from tests.plugins.text.json_schemas import SCHEMAS, closed
from tests.support.tiny_llama import END_OF_TURN

PROMPTS = ["Say something.", "And now?", "名前は何ですか"]
HOT = Sampling(temperature=1.0)
PERSON = closed(name={"type": "string", "maxLength": 8}, age={"type": "integer", "minimum": 0, "maximum": 120})
THIN = Pattern("[a-f]{30,60}")


def held(grammar: Grammar, prompt: str = "Say something.", **more: Any) -> ChatRequest:
    return ask(prompt, **{"sampling": HOT, "max_tokens": 48, **more}, constraint=FixedConstraint(grammar))


def check(schema: Any, text: str) -> None:
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    validator(schema, format_checker=validator.FORMAT_CHECKER).validate(json.loads(text))


@pytest.fixture(scope="module")
def llama(tiny_llama: Path) -> Iterator[TextModel]:
    loaded = load(tiny_llama)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def closers(llama: TextModel) -> dict[int, float]:
    """A bias towards what ends strings, lists and objects, and against what fills strings with blanks."""
    return dict.fromkeys([*tokens_of(llama, ['"', "}", "]", '"}', '"]', '",', "1", "2"]), END_OF_TURN], 12.0)


def test_every_finished_answer_validates(llama: TextModel, closers: dict[int, float]) -> None:
    biased = Sampling(temperature=1.0, logit_bias=closers)
    cases = list(product(SCHEMAS, PROMPTS[:2]))
    finished: dict[str, int] = dict.fromkeys(SCHEMAS, 0)
    for start in range(0, len(cases), 32):
        several = cases[start : start + 32]
        requests = [held(JsonValue(SCHEMAS[name]), prompt, sampling=biased) for name, prompt in several]
        for (name, _), answered in zip(several, answer(llama, *requests), strict=True):
            assert answered.reason in ("stop", "length")
            if answered.reason == "stop":
                check(SCHEMAS[name], answered.text)
                finished[name] += 1
    assert sum(finished.values()) > len(cases) * 0.8
    assert sum(map(bool, finished.values())) >= len(SCHEMAS) - 3


@pytest.mark.parametrize(
    ("grammar", "regex"),
    [
        (Pattern("(yes|no)!?"), "(yes|no)!?"),
        (one_of("red", "green", "red hot"), "red|green|red hot"),
        (LarkGrammar('start: word (", " word){2}\nword: /[a-z]{1,3}/'), "[a-z]{1,3}(, [a-z]{1,3}){2}"),
        (chain("<a>", Pattern("[0-9]{2}"), "</a>"), "<a>[0-9]{2}</a>"),
        (chain(Pattern("[a-z]{3}"), TextThrough(tuple("aeiou")), "end"), "(?s:[a-z]{3}[^aeiou]*[aeiou]end)"),
    ],
)
def test_other_grammars_are_obeyed(llama: TextModel, grammar: Grammar, regex: str) -> None:
    for answered in answer(llama, *(held(grammar, prompt) for prompt in PROMPTS)):
        assert answered.reason == "stop"
        assert re.fullmatch(regex, answered.text)


def test_a_free_grammar_leaves_the_answer_as_it_is(llama: TextModel) -> None:
    free, loose = answer(llama, ask(max_tokens=24), held(FreeText(), sampling=GREEDY, max_tokens=24))
    assert loose.text == free.text


def test_requests_of_both_kinds_share_a_batch_and_answer_as_alone(llama: TextModel) -> None:
    seeded = Sampling(temperature=1.0, seed=7)
    requests: list[Callable[[], ChatRequest]] = [
        lambda: ask(max_tokens=24),
        lambda: held(JsonValue(PERSON), sampling=seeded),
        lambda: ask("And now?", sampling=seeded, max_tokens=24),
        lambda: held(JsonValue(PERSON), "And now?", sampling=GREEDY),
        lambda: held(Pattern("[a-z ]{20,40}"), sampling=seeded),
    ]
    alone = [answer_one(llama, request()).text for request in requests]
    together = answer(llama, *(request() for request in requests))
    assert [answered.text for answered in together] == alone
    running = Round(llama)
    joined: list[Answered] = []
    for request in requests:
        joined.append(running.join(request()))
        for _ in range(4):
            running.turn()
    running.finish()
    assert [answered.text for answered in joined] == alone


def test_seeded_answers_of_one_request_differ_and_come_again(llama: TextModel) -> None:
    seeded = Sampling(temperature=1.0, seed=3)
    first, again = (answer_one(llama, held(THIN, sampling=seeded, n=3)) for _ in range(2))
    assert first.texts == again.texts
    assert len(set(first.texts.values())) == 3
    for text in first.texts.values():
        assert re.fullmatch("[a-f]{1,60}", text)


def test_a_cancelled_answer_leaves_the_others_alone(llama: TextModel) -> None:
    alone = answer_one(llama, held(THIN, sampling=GREEDY)).text
    running = Round(llama)
    stays, leaves, free = (
        running.join(held(THIN, sampling=GREEDY)),
        running.join(held(JsonValue(PERSON))),
        running.join(ask(max_tokens=20)),
    )
    while not leaves.pieces:
        running.turn()
    running.leave(leaves)
    running.finish()
    assert stays.text == alone
    assert free.completion_tokens == 20


def test_logprobs_are_those_of_the_masked_distribution(llama: TextModel) -> None:
    answered = answer_one(llama, held(Pattern("[01]{6}"), top_logprobs=20))
    said = [logprobs for logprobs in answered.logprobs[0] if logprobs.chosen.token]
    assert "".join(logprobs.chosen.token for logprobs in said) == answered.text
    for logprobs in said:
        assert set(found(logprobs)) <= {"0", "1", "00", "01", "10", "11"}
        # All that may come is among the candidates, so that they make up the whole.
        assert math.isclose(sum(map(math.exp, found(logprobs).values())), 1, rel_tol=1e-3)
        assert logprobs.chosen in logprobs.top


def found(logprobs: Logprobs) -> dict[str, float]:
    return {candidate.token: candidate.logprob for candidate in logprobs.top}


def test_what_must_come_has_probability_one(llama: TextModel) -> None:
    answered = answer_one(llama, held(Pattern("0"), top_logprobs=5))
    (logprobs,) = answered.logprobs[0]
    assert answered.text == "0"
    assert [candidate.token for candidate in logprobs.top] == ["0"]
    assert logprobs.chosen.logprob == pytest.approx(0, abs=1e-5)


def test_tokens_flow_as_they_come(llama: TextModel) -> None:
    answered = answer_one(llama, held(THIN))
    assert len(answered.pieces) > 5
    assert max(piece.tokens for piece in answered.pieces) <= 2


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {"top_p": 0.1},
        {"top_k": 1000},
        {"min_p": 1.0},
        {"xtc_probability": 1.0, "xtc_threshold": 0.0},
        {"repetition_penalty": 1.8, "presence_penalty": 2.0, "frequency_penalty": 2.0},
        {"temperature": 2.0, "top_k": 3, "top_p": 0.5, "min_p": 0.2, "xtc_probability": 0.5},
    ],
)
def test_no_sampling_parameter_breaks_the_form(llama: TextModel, sampling: dict[str, Any]) -> None:
    requests = [
        held(one_of("aye", "nay"), sampling=Sampling(**{"temperature": 1.0, **sampling})),
        held(Pattern("[0-9]{12}"), sampling=Sampling(**{"temperature": 1.0, **sampling})),
    ]
    choice, digits = answer(llama, *requests)
    assert choice.text in ("aye", "nay")
    assert re.fullmatch("[0-9]{12}", digits.text)


def test_a_bias_neither_forbids_the_only_way_nor_opens_another(llama: TextModel) -> None:
    only = dict.fromkeys(tokens_of(llama, ["0", "1", "00", "01", "10", "11"]), -100.0)
    others = dict.fromkeys(tokens_of(llama, ["a", " the", "\n", "2"]), 100.0)
    answered = answer_one(llama, held(Pattern("[01]{6}"), sampling=Sampling(logit_bias={**only, **others})))
    assert re.fullmatch("[01]{6}", answered.text)


def tokens_of(model: TextModel, texts: Sequence[str]) -> list[int]:
    return [token for text in texts for token in tokens(model, text)]


def tokens(model: TextModel, text: str) -> tuple[int, ...]:
    request = TokenizeRequest(id=f"r{next(ids)}", model="m", prompt=text, special_tokens=False)
    (said,) = (event for event in model.generate(request) if isinstance(event, Tokenized))
    return said.tokens


def test_max_tokens_cuts_what_never_ends(llama: TextModel) -> None:
    endless: Any = {"$defs": {"n": closed(k={"$ref": "#/$defs/n"})}, "$ref": "#/$defs/n"}
    answered = answer_one(llama, held(JsonValue(endless), max_tokens=20))
    assert (answered.reason, answered.completion_tokens) == ("length", 20)


def test_the_full_context_cuts_it_too(tiny_llama: Path) -> None:
    model = load(tiny_llama, context_length=64)
    answered = answer_one(model, held(Pattern("a{200}"), max_tokens=None))
    model.close()
    assert answered.reason == "length"
    assert answered.prompt_tokens + answered.completion_tokens == 64


def test_blanks_do_not_go_on_for_ever(llama: TextModel) -> None:
    blanks = dict.fromkeys(tokens_of(llama, [" ", "  ", "    ", "\n", "\t", "\n\n"]), 100.0)
    schema = closed(a={"enum": [1, 2]}, b={"type": "array", "items": {"type": "boolean"}, "maxItems": 2})
    answered = answer_one(llama, held(JsonValue(schema), sampling=Sampling(logit_bias=blanks)))
    assert answered.reason == "stop"
    check(schema, answered.text)


@dataclass(frozen=True)
class Thinking(Constraint):
    """A constraint whose prompt ends where thinking has begun."""

    inner: OutputConstraint

    def grammar(self, generation_prompt: str) -> Grammar:
        return self.inner.grammar("<|im_start|>assistant\n<think>\n")


def test_a_model_thinks_freely_and_then_obeys(llama: TextModel) -> None:
    parser = discover().parsers.found["qwen3"]
    constraint = Thinking(OutputConstraint(parser, parser, content=JsonValue(PERSON)))
    # The marker's own tokens, so that the random model finds the way out of its thoughts.
    bias = dict.fromkeys(tokens_of(llama, ["</think>"]), 14.0)
    requests = [
        replace(
            ask(prompt, sampling=Sampling(temperature=1.0, logit_bias=bias, seed=seed), max_tokens=400),
            constraint=constraint,
        )
        for seed, prompt in enumerate(PROMPTS)
    ]
    closed_thoughts = thought = 0
    for answered in answer(llama, *requests):
        thoughts, closer, said = answered.text.partition("</think>")
        thought += bool(thoughts)
        closed_thoughts += bool(closer)
        if closer:
            assert re.match(r"\s{0,2}(\{|$)", said)
        if answered.reason == "stop":
            check(PERSON, said)
    assert closed_thoughts
    assert thought


def test_an_answer_that_llguidance_gives_up_fails_alone(llama: TextModel) -> None:
    running = Round(llama)
    other = running.join(ask(max_tokens=40))
    fails = running.join(held(Pattern("(.{0,500}a){0,500}"), max_tokens=None))
    with pytest.raises(InvalidRequestError, match="too complex to continue"):
        running.finish()
    running.leave(fails)
    running.finish()
    assert fails.finished is None
    assert other.completion_tokens == 40


def test_a_completion_obeys_as_a_chat_does(llama: TextModel) -> None:
    request = CompletionRequest(
        id=f"r{next(ids)}",
        model="m",
        prompt="Once upon a time",
        sampling=HOT,
        max_tokens=40,
        constraint=FixedConstraint(JsonValue(PERSON)),
    )
    answered = answer_one(llama, request)
    assert answered.text.startswith('{"name":')
    if answered.reason == "stop":
        check(PERSON, answered.text)


def test_a_schema_that_cannot_be_kept_is_refused_before_anything_is_said(llama: TextModel) -> None:
    schema = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}
    running = Round(llama)
    other = running.join(ask(max_tokens=12))
    refused = running.join(held(JsonValue(schema, "response_format")))
    with pytest.raises(InvalidRequestError, match=r"keyword .uniqueItems. at #/properties/tags") as raised:
        running.finish()
    assert raised.value.param == "response_format"
    assert refused.started is None
    running.leave(refused)
    running.finish()
    assert other.completion_tokens == 12
