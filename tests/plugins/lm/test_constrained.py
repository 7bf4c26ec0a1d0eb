"""Constrained output of a random model: it always matches, and other sequences in the batch are not affected."""

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

from tests.plugins.lm.driver import (
    GREEDY,
    EngineLoop,
    RequestOutput,
    chat_request,
    generate,
    generate_one,
    load,
    request_ids,
)
from tests.plugins.text.json_schemas import SCHEMAS, closed
from tests.support.tiny_llama import END_OF_TURN

PROMPTS = ["Say something.", "And now?", "名前は何ですか"]
HOT = Sampling(temperature=1.0)
PERSON = closed(name={"type": "string", "maxLength": 8}, age={"type": "integer", "minimum": 0, "maximum": 120})
LETTERS = Pattern("[a-f]{30,60}")


def constrained(grammar: Grammar, prompt: str = "Say something.", **more: Any) -> ChatRequest:
    return chat_request(prompt, **{"sampling": HOT, "max_tokens": 48, **more}, constraint=FixedConstraint(grammar))


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
    """A bias towards tokens that close strings, arrays and objects, so that the random model finishes."""
    return dict.fromkeys([*tokens_of(llama, ['"', "}", "]", '"}', '"]', '",', "1", "2"]), END_OF_TURN], 12.0)


def test_finished_output_validates(llama: TextModel, closers: dict[int, float]) -> None:
    biased = Sampling(temperature=1.0, logit_bias=closers)
    cases = list(product(SCHEMAS, PROMPTS[:2]))
    finished: dict[str, int] = dict.fromkeys(SCHEMAS, 0)
    for start in range(0, len(cases), 32):
        batch = cases[start : start + 32]
        requests = [constrained(JsonValue(SCHEMAS[name]), prompt, sampling=biased) for name, prompt in batch]
        for (name, _), output in zip(batch, generate(llama, *requests), strict=True):
            assert output.reason in ("stop", "length")
            if output.reason == "stop":
                check(SCHEMAS[name], output.text)
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
def test_output_matches_grammars_that_are_not_json(llama: TextModel, grammar: Grammar, regex: str) -> None:
    for output in generate(llama, *(constrained(grammar, prompt) for prompt in PROMPTS)):
        assert output.reason == "stop"
        assert re.fullmatch(regex, output.text)


def test_free_text_does_not_change_the_output(llama: TextModel) -> None:
    requests = chat_request(max_tokens=24), constrained(FreeText(), sampling=GREEDY, max_tokens=24)
    unconstrained, free = generate(llama, *requests)
    assert free.text == unconstrained.text


def test_batched_constrained_output_equals_single_output(llama: TextModel) -> None:
    seeded = Sampling(temperature=1.0, seed=7)
    requests: list[Callable[[], ChatRequest]] = [
        lambda: chat_request(max_tokens=24),
        lambda: constrained(JsonValue(PERSON), sampling=seeded),
        lambda: chat_request("And now?", sampling=seeded, max_tokens=24),
        lambda: constrained(JsonValue(PERSON), "And now?", sampling=GREEDY),
        lambda: constrained(Pattern("[a-z ]{20,40}"), sampling=seeded),
    ]
    alone = [generate_one(llama, request()).text for request in requests]
    together = generate(llama, *(request() for request in requests))
    assert [output.text for output in together] == alone
    loop = EngineLoop(llama)
    joined: list[RequestOutput] = []
    for request in requests:
        joined.append(loop.add(request()))
        for _ in range(4):
            loop.step()
    loop.run()
    assert [output.text for output in joined] == alone


def test_seeded_choices_differ_and_repeat(llama: TextModel) -> None:
    seeded = Sampling(temperature=1.0, seed=3)
    first, again = (generate_one(llama, constrained(LETTERS, sampling=seeded, n=3)) for _ in range(2))
    assert first.texts == again.texts
    assert len(set(first.texts.values())) == 3
    for text in first.texts.values():
        assert re.fullmatch("[a-f]{1,60}", text)


def test_cancelling_does_not_affect_other_constrained_requests(llama: TextModel) -> None:
    alone = generate_one(llama, constrained(LETTERS, sampling=GREEDY)).text
    loop = EngineLoop(llama)
    kept, cancelled, free = (
        loop.add(constrained(LETTERS, sampling=GREEDY)),
        loop.add(constrained(JsonValue(PERSON))),
        loop.add(chat_request(max_tokens=20)),
    )
    while not cancelled.deltas:
        loop.step()
    loop.cancel(cancelled)
    loop.run()
    assert kept.text == alone
    assert free.completion_tokens == 20


def test_logprobs_are_those_of_the_masked_distribution(llama: TextModel) -> None:
    output = generate_one(llama, constrained(Pattern("[01]{6}"), top_logprobs=20))
    entries = [logprobs for logprobs in output.logprobs[0] if logprobs.chosen.token]
    assert "".join(logprobs.chosen.token for logprobs in entries) == output.text
    for logprobs in entries:
        assert set(top_values(logprobs)) <= {"0", "1", "00", "01", "10", "11"}
        # All allowed tokens are among the candidates, so that their probabilities add up to 1.
        assert math.isclose(sum(map(math.exp, top_values(logprobs).values())), 1, rel_tol=1e-3)
        assert logprobs.chosen in logprobs.top


def top_values(logprobs: Logprobs) -> dict[str, float]:
    return {candidate.token: candidate.logprob for candidate in logprobs.top}


def test_a_forced_token_has_probability_one(llama: TextModel) -> None:
    output = generate_one(llama, constrained(Pattern("0"), top_logprobs=5))
    (logprobs,) = output.logprobs[0]
    assert output.text == "0"
    assert [candidate.token for candidate in logprobs.top] == ["0"]
    assert logprobs.chosen.logprob == pytest.approx(0, abs=1e-5)


def test_constrained_output_is_streamed_token_by_token(llama: TextModel) -> None:
    output = generate_one(llama, constrained(LETTERS))
    assert len(output.deltas) > 5
    assert max(delta.token_count for delta in output.deltas) <= 2


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
def test_sampling_parameters_do_not_break_the_constraint(llama: TextModel, sampling: dict[str, Any]) -> None:
    requests = [
        constrained(one_of("aye", "nay"), sampling=Sampling(**{"temperature": 1.0, **sampling})),
        constrained(Pattern("[0-9]{12}"), sampling=Sampling(**{"temperature": 1.0, **sampling})),
    ]
    choice, digits = generate(llama, *requests)
    assert choice.text in ("aye", "nay")
    assert re.fullmatch("[0-9]{12}", digits.text)


def test_logit_bias_cannot_override_the_constraint(llama: TextModel) -> None:
    allowed = dict.fromkeys(tokens_of(llama, ["0", "1", "00", "01", "10", "11"]), -100.0)
    others = dict.fromkeys(tokens_of(llama, ["a", " the", "\n", "2"]), 100.0)
    output = generate_one(llama, constrained(Pattern("[01]{6}"), sampling=Sampling(logit_bias={**allowed, **others})))
    assert re.fullmatch("[01]{6}", output.text)


def tokens_of(model: TextModel, texts: Sequence[str]) -> list[int]:
    return [token for text in texts for token in tokens(model, text)]


def tokens(model: TextModel, text: str) -> tuple[int, ...]:
    request = TokenizeRequest(id=f"r{next(request_ids)}", model="m", prompt=text, special_tokens=False)
    (tokenized,) = (event for event in model.generate(request) if isinstance(event, Tokenized))
    return tokenized.tokens


def test_max_tokens_ends_endless_output(llama: TextModel) -> None:
    endless: Any = {"$defs": {"n": closed(k={"$ref": "#/$defs/n"})}, "$ref": "#/$defs/n"}
    output = generate_one(llama, constrained(JsonValue(endless), max_tokens=20))
    assert (output.reason, output.completion_tokens) == ("length", 20)


def test_the_context_length_ends_endless_output(tiny_llama: Path) -> None:
    model = load(tiny_llama, context_length=64)
    output = generate_one(model, constrained(Pattern("a{200}"), max_tokens=None))
    model.close()
    assert output.reason == "length"
    assert output.prompt_tokens + output.completion_tokens == 64


def test_whitespace_is_limited(llama: TextModel) -> None:
    whitespace = dict.fromkeys(tokens_of(llama, [" ", "  ", "    ", "\n", "\t", "\n\n"]), 100.0)
    schema = closed(a={"enum": [1, 2]}, b={"type": "array", "items": {"type": "boolean"}, "maxItems": 2})
    output = generate_one(llama, constrained(JsonValue(schema), sampling=Sampling(logit_bias=whitespace)))
    assert output.reason == "stop"
    check(schema, output.text)


@dataclass(frozen=True)
class OpenReasoning(Constraint):
    """A constraint for a prompt that ends with an open <think> tag."""

    inner: OutputConstraint

    def grammar(self, generation_prompt: str) -> Grammar:
        return self.inner.grammar("<|im_start|>assistant\n<think>\n")


def test_reasoning_is_unconstrained_and_content_is_constrained(llama: TextModel) -> None:
    parser = discover().parsers.found["qwen3"]
    constraint = OpenReasoning(OutputConstraint(parser, parser, content=JsonValue(PERSON)))
    # Towards the end tag's tokens, so that the random model ends its reasoning.
    bias = dict.fromkeys(tokens_of(llama, ["</think>"]), 14.0)
    requests = [
        replace(
            chat_request(prompt, sampling=Sampling(temperature=1.0, logit_bias=bias, seed=seed), max_tokens=400),
            constraint=constraint,
        )
        for seed, prompt in enumerate(PROMPTS)
    ]
    closed_count = reasoning_count = 0
    for output in generate(llama, *requests):
        reasoning, end_tag, content = output.text.partition("</think>")
        reasoning_count += bool(reasoning)
        closed_count += bool(end_tag)
        if end_tag:
            assert re.match(r"\s{0,2}(\{|$)", content)
        if output.reason == "stop":
            check(PERSON, content)
    assert closed_count
    assert reasoning_count


def test_a_grammar_beyond_llguidances_limits_fails_its_request_only(llama: TextModel) -> None:
    loop = EngineLoop(llama)
    other = loop.add(chat_request(max_tokens=40))
    failing = loop.add(constrained(Pattern("(.{0,500}a){0,500}"), max_tokens=None))
    with pytest.raises(InvalidRequestError):
        loop.run()
    loop.cancel(failing)
    loop.run()
    assert failing.finished is None
    assert other.completion_tokens == 40


def test_completions_can_be_constrained(llama: TextModel) -> None:
    request = CompletionRequest(
        id=f"r{next(request_ids)}",
        model="m",
        prompt="Once upon a time",
        sampling=HOT,
        max_tokens=40,
        constraint=FixedConstraint(JsonValue(PERSON)),
    )
    output = generate_one(llama, request)
    assert output.text.startswith('{"name":')
    if output.reason == "stop":
        check(PERSON, output.text)


def test_an_unsupported_schema_is_rejected_before_generation(llama: TextModel) -> None:
    schema = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}
    loop = EngineLoop(llama)
    other = loop.add(chat_request(max_tokens=12))
    rejected = loop.add(constrained(JsonValue(schema, "response_format")))
    with pytest.raises(InvalidRequestError, match=r"uniqueItems.*#/properties/tags") as error:
        loop.run()
    assert error.value.param == "response_format"
    assert rejected.started is None
    loop.cancel(rejected)
    loop.run()
    assert other.completion_tokens == 12
