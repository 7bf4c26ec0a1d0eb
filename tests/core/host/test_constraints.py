"""What a request asks of its answer's form becomes a constraint once the model and its parsers are known."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
from mlx_host._host.constraints import with_constraint
from mlx_host._host.parser_selection import ParserSelection
from mlx_host.backend import Capabilities
from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import (
    Alternatives,
    Concat,
    FixedConstraint,
    Grammar,
    JsonValue,
    LiteralText,
    Pattern,
    TextThrough,
    chain,
    iter_leaves,
    optional,
)
from mlx_host.parsing import MarkupParser, OutputConstraint, Part
from mlx_host.parsing.parser import Parser, ToolChoice
from mlx_host.requests import ChatRequest, CompletionRequest, GenerationRequest, Json, TokenizeRequest

FORM = JsonValue({"type": "object"}, "response_format")


class Plain(Parser):
    """Calls are written as `name:` and JSON; between several stands a comma."""

    name = "plain"
    description = "names"
    call_starts = ("f:", "g:")

    def feed(self, text: str) -> list[Part]:
        raise NotImplementedError

    def finish(self) -> list[Part]:
        raise NotImplementedError

    def grammar(self, tools: Any, choice: ToolChoice) -> Grammar:
        calls = [chain(f"{tool['function']['name']}:", JsonValue(tool["function"]["parameters"])) for tool in tools]
        return Alternatives((*calls, LiteralText("several"))) if choice.parallel else Alternatives(tuple(calls))


class Silent(Plain):
    """A family whose calls nobody has put into a grammar."""

    name = "silent"

    def grammar(self, tools: Any, choice: ToolChoice) -> Grammar:
        return Parser.grammar(self, tools, choice)


class Thinker(Plain):
    """A family that may think first."""

    name = "thinker"

    def reasoning_grammar(self) -> Grammar:
        return optional("<", TextThrough((">",)))


BOTH = ParserSelection(Plain, Plain)


def tool(name: str, strict: bool | None = None) -> Json:
    function: dict[str, Any] = {"name": name, "parameters": {"type": "object", "title": name}}
    return {"type": "function", "function": function if strict is None else {**function, "strict": strict}}


def ask(**more: Any) -> ChatRequest:
    return ChatRequest(id="r", model="m", messages=[], **more)


def held(request: Any, parsers: ParserSelection = BOTH, *, supports_structured_outputs: bool = True) -> Any:
    info = Capabilities((ChatRequest,), 1, None, None, supports_structured_outputs)
    return with_constraint(request, "m", info, parsers)


def grammar(request: GenerationRequest, parsers: ParserSelection = BOTH) -> Grammar:
    """The grammar that reaches the model's process."""
    constraint = pickle.loads(pickle.dumps(held(request, parsers))).constraint
    written: Grammar = constraint.grammar("")
    return written


def schemas(request: GenerationRequest) -> list[Any]:
    return [leaf.schema for leaf in iter_leaves(grammar(request)) if isinstance(leaf, JsonValue)]


@pytest.mark.parametrize("parsers", [BOTH, ParserSelection()])
@pytest.mark.parametrize("supports_structured_outputs", [True, False])
@pytest.mark.parametrize(
    "request_",
    [
        ask(),
        ask(tools=[tool("f")]),
        ask(tools=[tool("f", False)], parallel_tool_calls=False),
        ask(tool_choice="none"),
        CompletionRequest(id="r", model="m", prompt="a"),
        TokenizeRequest(id="r", model="m", prompt="a"),
    ],
)
def test_nothing_asked_is_nothing_held(
    request_: Any, parsers: ParserSelection, supports_structured_outputs: bool
) -> None:
    assert held(request_, parsers, supports_structured_outputs=supports_structured_outputs) == request_


def test_a_completion_is_its_form() -> None:
    assert held(CompletionRequest(id="r", model="m", prompt="a", output_format=FORM)).constraint == FixedConstraint(
        FORM
    )


def test_a_chat_answer_has_a_form_with_a_parser_and_without() -> None:
    assert grammar(ask(output_format=FORM), ParserSelection()) == FORM
    assert FORM in iter_leaves(grammar(ask(output_format=FORM)))
    assert FORM in iter_leaves(grammar(ask(output_format=FORM, tools=[tool("f")]), ParserSelection()))


def test_white_space_may_come_before_a_form_only_after_thinking() -> None:
    assert grammar(ask(output_format=FORM)) == FORM
    thinks, at_once = alternatives = one_of_parts(grammar(ask(output_format=FORM), ParserSelection(Thinker)))
    assert len(alternatives) == 2
    assert at_once == FORM
    assert [type(part) for part in iter_leaves(thinks)] == [LiteralText, TextThrough, Pattern, JsonValue]


def one_of_parts(written: Grammar) -> tuple[Grammar, ...]:
    assert isinstance(written, Alternatives)
    return written.parts


def test_with_a_form_and_tools_the_answer_is_either() -> None:
    assert schemas(ask(output_format=FORM, tools=[tool("f")])) == [{"type": "object"}, FORM.schema]
    assert schemas(ask(output_format=FORM, tools=[tool("f", True)])) == [{"type": "object", "title": "f"}, FORM.schema]


def test_a_required_call_conforms_whether_strict_or_not() -> None:
    tools = [tool("f"), tool("g", True)]
    both = [{"type": "object", "title": name} for name in "fg"]
    assert schemas(ask(tools=tools, tool_choice="required")) == both
    assert schemas(ask(tools=tools, tool_choice="required", output_format=FORM)) == both
    assert schemas(ask(tools=tools, tool_choice="required", allowed_tools=["g"])) == both[1:]


def test_allowed_tools_alone_can_be_called() -> None:
    assert schemas(ask(tools=[tool("f", True), tool("g")], allowed_tools=["g"])) == [{"type": "object"}]


def test_strict_tools_conform_without_being_required() -> None:
    titles = [schema.get("title") for schema in schemas(ask(tools=[tool("f", True), tool("g")]))]
    assert titles == ["f", None]


@pytest.mark.parametrize("parallel", [True, False])
def test_one_call_at_a_time_is_part_of_the_grammar(parallel: bool) -> None:
    asked = ask(tools=[tool("f")], tool_choice="required", parallel_tool_calls=parallel)
    assert (LiteralText("several") in iter_leaves(grammar(asked))) == parallel


def test_a_named_function_is_called_once() -> None:
    asked = ask(tools=[tool("f"), tool("g")], tool_choice="required", allowed_tools=["f"])
    assert LiteralText("several") not in iter_leaves(grammar(asked))
    assert LiteralText("several") in iter_leaves(grammar(replace(asked, allowed_tools=["f", "g"])))


@pytest.mark.parametrize(
    "request_",
    [
        ask(output_format=FORM),
        ask(tools=[tool("f")], tool_choice="required"),
        ask(tools=[tool("f")], allowed_tools=["f"]),
        CompletionRequest(id="r", model="m", prompt="a", output_format=FORM),
    ],
)
def test_a_model_that_cannot_be_held_is_not_asked(request_: GenerationRequest) -> None:
    with pytest.raises(UnsupportedRequestError, match="Model 'm' does not support") as refused:
        held(request_, supports_structured_outputs=False)
    assert refused.value.param == ("response_format" if request_.output_format else "tool_choice")


@pytest.mark.parametrize("more", [{"tool_choice": "required"}, {"allowed_tools": ["f"]}])
def test_calls_that_nobody_reads_are_not_forced(more: Any) -> None:
    with pytest.raises(UnsupportedRequestError, match="--parser"):
        held(ask(tools=[tool("f")], **more), ParserSelection(reasoning=Plain))


def test_strict_is_no_reason_to_refuse_where_nothing_can_hold_to_it() -> None:
    request = ask(tools=[tool("f", True)])
    assert held(request, supports_structured_outputs=False) == request
    assert held(request, ParserSelection(reasoning=Plain)) == request


@pytest.mark.parametrize("more", [{"tool_choice": "required"}, {"output_format": FORM}, {"tools": [tool("f", True)]}])
def test_a_family_that_cannot_say_its_calls_refuses(more: Any) -> None:
    with pytest.raises(UnsupportedRequestError, match="'silent'"):
        grammar(ask(**{"tools": [tool("f")], **more}), ParserSelection(Silent, Silent))


def test_no_form_and_no_call_leaves_nothing_out() -> None:
    assert grammar(ask(output_format=FORM), ParserSelection(Silent, Silent)) != Concat()


def test_only_a_model_whose_template_speaks_of_thinking_may_think() -> None:
    class Tagged(MarkupParser):
        name = "tagged"
        description = "tags"
        think_open = ("<think>",)
        think_close = ("</think>",)

    def thinks(template: str | None) -> bool:
        info = Capabilities((ChatRequest,), 1, None, template, True)
        made = with_constraint(ask(form=FORM), "m", info, ParserSelection(Tagged, Tagged))
        assert isinstance(made, ChatRequest)
        assert isinstance(made.constraint, OutputConstraint)
        return made.constraint.can_reason

    assert thinks("<think>{{ thought }}</think>")
    assert not thinks("<|im_start|>{{ message }}")
    # Nobody knows.
    assert thinks(None)
