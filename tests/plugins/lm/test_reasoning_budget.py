"""A limit of reasoning tokens closes the reasoning of a random model after exactly so many tokens."""

from __future__ import annotations

from typing import Any

import pytest
from mlx_host.grammar import JsonValue
from mlx_host.parsing import OutputConstraint, Parser
from mlx_host.requests import ReasoningMarkup, Sampling
from mlx_host_parser_harmony import HarmonyParser
from mlx_host_parser_qwen3 import Qwen3Parser
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import RequestOutput, chat_request, generate, generate_one, load

# A template that opens the reasoning, as that of thinking models does.
OPENED = "{{ messages[0].content }}<|im_start|>assistant\n<think>\n"
UNOPENED = "{{ messages[0].content }}<|im_start|>assistant\n"
THINK = ReasoningMarkup(("<think>",), ("</think>",), "</think>")


@pytest.fixture(scope="module", params=[{}, {"reasoning_budget_message": "Time is up.\n"}], ids=["plain", "message"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.param
    return found


@pytest.fixture(scope="module")
def thinker(tiny_llama: Any, tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any]) -> Any:
    template = tmp_path_factory.mktemp("templates") / "opened.jinja"
    template.write_text(OPENED)
    model = load(tiny_llama, chat_template_file=template, **options)
    yield model
    model.close()


def reasoning_tokens(output: RequestOutput, closing: str) -> int:
    """The tokens before the closing text, counted by the deltas of the output."""
    text, tokens = "", 0
    for delta in output.deltas:
        text += delta.text
        if closing.startswith(text[text.find(closing[0]) :] if closing[0] in text else "\0") or closing in text:
            break
        tokens += delta.token_count
    return tokens


@pytest.mark.parametrize("budget", [0, 1, 5, 12])
def test_reasoning_is_closed_after_exactly_the_budget(thinker: TextModel, options: dict[str, Any], budget: int) -> None:
    unlimited = chat_request(max_tokens=40, reasoning_markup=THINK, sampling=Sampling(temperature=1.0, seed=3))
    limited = chat_request(
        max_tokens=40, reasoning_markup=THINK, sampling=Sampling(temperature=1.0, seed=3), max_reasoning_tokens=budget
    )
    free, closed = generate(thinker, unlimited, limited)
    closing = options.get("reasoning_budget_message", "") + "</think>"
    reasoning, _, content = closed.text.partition(closing)
    assert "</think>" not in free.text
    # The same draws up to the budget, then the closing text, then output of the model again.
    assert free.text.startswith(reasoning)
    assert reasoning_tokens(closed, closing) == budget
    assert content
    assert closed.completion_tokens == 40


def test_every_choice_of_a_batch_has_its_own_budget(thinker: TextModel) -> None:
    requests = [
        chat_request(
            max_tokens=30,
            n=2,
            reasoning_markup=THINK,
            max_reasoning_tokens=budget,
            sampling=Sampling(temperature=1.0, seed=budget),
        )
        for budget in (2, 7)
    ]
    for output in generate(thinker, *requests):
        assert all(text.count("</think>") == 1 for text in output.texts.values()), output.texts


def test_a_budget_applies_under_a_grammar(thinker: TextModel) -> None:
    schema = JsonValue({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    request = chat_request(
        max_tokens=60,
        reasoning_markup=THINK,
        max_reasoning_tokens=6,
        sampling=Sampling(temperature=1.0, seed=1),
        constraint=OutputConstraint(Qwen3Parser, None, content=schema),
    )
    output = generate_one(thinker, request)
    assert output.text.partition("</think>")[2].strip().startswith("{")


def test_reasoning_that_the_model_opens_itself_is_limited(tiny_llama: Any, tmp_path: Any) -> None:
    template = tmp_path / "unopened.jinja"
    template.write_text(UNOPENED)
    model = load(tiny_llama, chat_template_file=template)
    # A bias that makes the model write the opening token again and again.
    opening = 198  # A newline in SmolLM2's vocabulary.
    request = chat_request(
        max_tokens=12,
        reasoning_markup=ReasoningMarkup(("\n",), ("<close>",), "<close>"),
        max_reasoning_tokens=2,
        sampling=Sampling(temperature=0.0, logit_bias={opening: 100.0}),
    )
    output = generate_one(model, request)
    assert output.text.startswith("\n\n\n<close>")
    model.close()


def test_the_default_budget_is_an_option(tiny_llama: Any, tmp_path: Any) -> None:
    template = tmp_path / "opened.jinja"
    template.write_text(OPENED)
    model = load(tiny_llama, chat_template_file=template, reasoning_budget=3)
    default, unlimited = generate(
        model,
        chat_request(max_tokens=20, reasoning_markup=THINK),
        chat_request(max_tokens=20, reasoning_markup=THINK, max_reasoning_tokens=-1),
    )
    assert "</think>" in default.text
    assert "</think>" not in unlimited.text
    model.close()


@pytest.mark.parametrize("parser", [Qwen3Parser, HarmonyParser])
def test_the_closing_text_ends_the_reasoning_for_the_parser(parser: type[Parser]) -> None:
    markup = parser.reasoning_markup()
    assert markup is not None
    instance = parser(generation_prompt="")
    parts = [*instance.feed(f"{markup.open[0]}Hm{markup.closing}Yes"), *instance.finish()]
    assert [part.source for part in parts if type(part).__name__ == "Reasoning"] == ["Hm"]
    assert "".join(part.source for part in parts if type(part).__name__ == "Content") == "Yes"
