"""Output formats and tool choices of a request become constraints for the model and its parsers."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
from mlx_host._apis.chat.schema import ChatBody
from mlx_host._host.constraints import streams_arguments, with_constraint
from mlx_host._host.parser_selection import ParserSelection
from mlx_host.api import ModelState, ModelStatus
from mlx_host.api.text import ignored_by_model
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
from mlx_host.requests import ChatRequest, CompletionRequest, ExplainRequest, GenerationRequest, Json, TokenizeRequest

FORM = JsonValue({"type": "object"}, "response_format")


class Plain(Parser):
    """Calls are written as `name:` and JSON, separated by commas."""

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


class WithoutGrammar(Plain):
    """A family without a grammar of its calls."""

    name = "silent"

    def grammar(self, tools: Any, choice: ToolChoice) -> Grammar:
        return Parser.grammar(self, tools, choice)


class Reasoner(Plain):
    """A family with optional reasoning before the content."""

    name = "thinker"

    def reasoning_grammar(self) -> Grammar:
        return optional("<", TextThrough((">",)))


BOTH = ParserSelection(Plain, Plain)


def tool(name: str, strict: bool | None = None) -> Json:
    function: dict[str, Any] = {"name": name, "parameters": {"type": "object", "title": name}}
    return {"type": "function", "function": function if strict is None else {**function, "strict": strict}}


def ask(**more: Any) -> ChatRequest:
    return ChatRequest(id="r", model="m", messages=[], **more)


def complete(request: Any, parsers: ParserSelection = BOTH, *, supports_structured_outputs: bool = True) -> Any:
    info = Capabilities((ChatRequest,), 1, None, None, supports_structured_outputs)
    return with_constraint(request, "m", info, parsers)


def grammar(request: GenerationRequest, parsers: ParserSelection = BOTH) -> Grammar:
    """The grammar that the model's process receives."""
    constraint = pickle.loads(pickle.dumps(complete(request, parsers))).constraint
    written: Grammar = constraint.grammar("")
    return written


def schemas(request: GenerationRequest) -> list[Any]:
    return [leaf.schema for leaf in iter_leaves(grammar(request)) if isinstance(leaf, JsonValue)]


def without_notation(request: Any) -> Any:
    return replace(request, call_notation=None) if isinstance(request, ChatRequest) else request


def test_the_notation_of_calls_is_that_of_the_parser_of_calls() -> None:
    chat = ask()
    requests = (chat, TokenizeRequest(id="r", model="m", prompt=chat), ExplainRequest(id="r", model="m", prompt=chat))
    for parsers, notation in ((BOTH, BOTH.tools), (ParserSelection(reasoning=Plain), None)):
        for request in requests:
            prepared: Any = complete(request, parsers)
            assert getattr(prepared, "prompt", prepared).call_notation is notation


class Writer(Plain):
    """A family whose calls can be written."""

    @classmethod
    def write_calls(cls, calls: Any) -> list[str]:
        return [",".join(f"{name}:{arguments}" for name, arguments in calls)]


def test_tools_can_be_described_if_the_parser_writes_calls() -> None:
    body = ChatBody.model_validate({"messages": [{"role": "user", "content": "Hi"}]})
    info = Capabilities(chat_template="{{ messages }}", tools=True)
    for parser, ignored in ((Writer, []), (Plain, ["tools"])):
        parsers = ParserSelection(tools=parser)
        model = ModelStatus("m", ModelState.READY, capabilities=info, writes_calls=parsers.writes_calls)
        assert ignored_by_model(body, ask(tools=[tool("f")]), model, {}) == ignored


def test_a_message_is_not_continued_by_a_model_that_cannot() -> None:
    for request in (
        ask(continue_final_message=True),
        TokenizeRequest(id="r", model="m", prompt=ask(continue_final_message=True)),
    ):
        with pytest.raises(UnsupportedRequestError) as error:
            complete(request, BOTH)
        assert error.value.param == "continue_final_message"


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
def test_requests_without_a_format_are_not_constrained(
    request_: Any, parsers: ParserSelection, supports_structured_outputs: bool
) -> None:
    unconstrained = complete(request_, parsers, supports_structured_outputs=supports_structured_outputs)
    assert without_notation(unconstrained) == request_


def test_a_completion_is_constrained_to_its_format() -> None:
    assert complete(CompletionRequest(id="r", model="m", prompt="a", output_format=FORM)).constraint == FixedConstraint(
        FORM
    )


def test_chat_content_is_constrained_with_and_without_a_parser() -> None:
    assert grammar(ask(output_format=FORM), ParserSelection()) == FORM
    assert FORM in iter_leaves(grammar(ask(output_format=FORM)))
    assert FORM in iter_leaves(grammar(ask(output_format=FORM, tools=[tool("f")]), ParserSelection()))


def test_whitespace_before_constrained_content_only_after_reasoning() -> None:
    assert grammar(ask(output_format=FORM)) == FORM
    thinks, at_once = alternatives = one_of_parts(grammar(ask(output_format=FORM), ParserSelection(Reasoner)))
    assert len(alternatives) == 2
    assert at_once == FORM
    assert [type(part) for part in iter_leaves(thinks)] == [LiteralText, TextThrough, Pattern, JsonValue]


def one_of_parts(written: Grammar) -> tuple[Grammar, ...]:
    assert isinstance(written, Alternatives)
    return written.parts


def test_with_a_format_and_tools_the_output_is_either() -> None:
    assert schemas(ask(output_format=FORM, tools=[tool("f")])) == [{"type": "object"}, FORM.schema]
    assert schemas(ask(output_format=FORM, tools=[tool("f", True)])) == [{"type": "object", "title": "f"}, FORM.schema]


def test_a_required_call_conforms_whether_strict_or_not() -> None:
    tools = [tool("f"), tool("g", True)]
    both = [{"type": "object", "title": name} for name in "fg"]
    assert schemas(ask(tools=tools, tool_choice="required")) == both
    assert schemas(ask(tools=tools, tool_choice="required", output_format=FORM)) == both
    assert schemas(ask(tools=tools, tool_choice="required", allowed_tools=["g"])) == both[1:]


def test_only_allowed_tools_can_be_called() -> None:
    assert schemas(ask(tools=[tool("f", True), tool("g")], allowed_tools=["g"])) == [{"type": "object"}]


def test_strict_tools_are_constrained_without_being_required() -> None:
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
def test_models_without_structured_outputs_reject_formats(request_: GenerationRequest) -> None:
    with pytest.raises(UnsupportedRequestError, match="'m'") as raised:
        complete(request_, supports_structured_outputs=False)
    assert raised.value.param == ("response_format" if request_.output_format else "tool_choice")


@pytest.mark.parametrize("more", [{"tool_choice": "required"}, {"allowed_tools": ["f"]}])
def test_calls_are_not_forced_without_a_parser(more: Any) -> None:
    with pytest.raises(UnsupportedRequestError, match="--parser"):
        complete(ask(tools=[tool("f")], **more), ParserSelection(reasoning=Plain))


def test_strict_is_ignored_without_structured_outputs() -> None:
    request = ask(tools=[tool("f", True)])
    assert without_notation(complete(request, supports_structured_outputs=False)) == request
    assert complete(request, ParserSelection(reasoning=Plain)) == request


@pytest.mark.parametrize("more", [{"tool_choice": "required"}, {"output_format": FORM}, {"tools": [tool("f", True)]}])
def test_calls_cannot_be_forced_without_a_grammar(more: Any) -> None:
    with pytest.raises(UnsupportedRequestError, match="'silent'"):
        grammar(ask(**{"tools": [tool("f")], **more}), ParserSelection(WithoutGrammar, WithoutGrammar))


def test_without_a_format_and_calls_the_output_is_free() -> None:
    assert grammar(ask(output_format=FORM), ParserSelection(WithoutGrammar, WithoutGrammar)) != Concat()


def test_reasoning_is_allowed_only_if_the_chat_template_supports_it() -> None:
    class Tagged(MarkupParser):
        name = "tagged"
        description = "tags"
        think_open = ("<think>",)
        think_close = ("</think>",)

    def thinks(template: str | None) -> bool:
        info = Capabilities((ChatRequest,), 1, None, template, True)
        made = with_constraint(ask(output_format=FORM), "m", info, ParserSelection(Tagged, Tagged))
        assert isinstance(made, ChatRequest)
        assert isinstance(made.constraint, OutputConstraint)
        return made.constraint.can_reason

    assert thinks("<think>{{ thought }}</think>")
    assert not thinks("<|im_start|>{{ message }}")
    # Unknown.
    assert thinks(None)


@pytest.mark.parametrize(
    ("fields", "streams"),
    [
        ({}, False),
        ({"tool_choice": "required"}, True),
        ({"allowed_tools": ["f"]}, True),
        ({"output_format": FORM}, True),
        ({"tools": [tool("f"), tool("g", strict=True)]}, True),
        ({"tool_choice": "required", "stream_tool_arguments": False}, False),
        ({"output_format": FORM, "tools": []}, False),
    ],
)
def test_arguments_are_streamed_if_a_grammar_constrains_them(fields: dict[str, Any], streams: bool) -> None:
    request = replace(ask(tools=[tool("f"), tool("g")], stream_tool_arguments=True), **fields)
    info = Capabilities((ChatRequest,), 1, None, None, True)
    assert streams_arguments(request, info, BOTH) is streams


def test_all_arguments_are_streamed_if_configured() -> None:
    parsers = replace(BOTH, stream_arguments=True)
    info = Capabilities((ChatRequest,), 1, None, None, False)
    assert streams_arguments(ask(tools=[tool("f")], stream_tool_arguments=True), info, parsers)
    assert not streams_arguments(ask(tools=[tool("f")]), info, parsers)
