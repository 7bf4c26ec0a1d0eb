"""Completes a request for its model: the constraint of its output, from its output format and the schemas of its tools,
the markup of reasoning, the notation of calls, its media, and a check of optional parameters.

The grammar is built later, in the model's process: for many large tools that takes a second, which would block the
host's event loop. Schemas that it does not support are rejected there, before the output starts.
"""

from __future__ import annotations

from dataclasses import replace

from mlx_host._host.parser_selection import ParserSelection
from mlx_host.api.history_media import omit_media
from mlx_host.api.tool_choice import is_strict
from mlx_host.backend import Capabilities
from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import Constraint, FixedConstraint, Grammar, JsonValue, LarkGrammar, Pattern, iter_leaves
from mlx_host.parsing.constraint import OutputConstraint
from mlx_host.parsing.parser import ToolChoice
from mlx_host.requests import ChatRequest, ExplainRequest, GenerationRequest, Request, TokenizeRequest

OPTIONAL_PARAMETERS = ("min_tokens", "ignore_eos", "bad_words", "stop_token_ids", "allowed_token_ids")
"""The fields of Sampling that a model need not support."""


def with_constraint(request: Request, model: str, info: Capabilities, parsers: ParserSelection) -> Request:
    """Return the request with its constraint; UnsupportedRequestError if the model does not support it."""
    if isinstance(request, GenerationRequest):
        _check_parameters(request, model, info)
    match request:
        case ChatRequest():
            return _completed(request, model, info, parsers)
        case ExplainRequest(prompt=prompt):
            _check_parameters(prompt, model, info)
            return replace(request, prompt=_completed(prompt, model, info, parsers))
        case TokenizeRequest(prompt=ChatRequest() as prompt):
            _check_continuation(prompt, model, info)
            messages, _ = omit_media(prompt.messages, info.input_modalities)
            return replace(request, prompt=replace(prompt, messages=messages, call_notation=parsers.tools))
        case GenerationRequest(output_format=Grammar() as output_format):
            _check_structured_outputs(model, info, _param(output_format))
            return replace(request, constraint=FixedConstraint(output_format))
    return request


def _completed(request: ChatRequest, model: str, info: Capabilities, parsers: ParserSelection) -> ChatRequest:
    _check_continuation(request, model, info)
    markup = parsers.reasoning.reasoning_markup() if parsers.reasoning is not None else None
    messages, _ = omit_media(request.messages, info.input_modalities)
    return replace(
        request,
        messages=messages,
        constraint=_chat_constraint(request, model, info, parsers),
        reasoning_markup=markup,
        call_notation=parsers.tools,
    )


def enforces_tool_schemas(info: Capabilities, parsers: ParserSelection) -> bool:
    """Whether the arguments of tool calls can be constrained by the schemas of their tools."""
    return info.structured_outputs and parsers.tools is not None


def streams_arguments(request: ChatRequest, info: Capabilities, parsers: ParserSelection) -> bool:
    """Whether the arguments of tool calls are streamed.

    The API must support it, and either the parser streams all arguments or a grammar constrains them.
    """
    if not request.stream_tool_arguments or not request.tools or parsers.tools is None:
        return False
    return parsers.stream_arguments or _constrains_calls(request, info, parsers)


def _constrains_calls(request: ChatRequest, info: Capabilities, parsers: ParserSelection) -> bool:
    """Whether the output has a grammar that contains the calls."""
    return (
        request.tool_choice == "required"
        or request.allowed_tools is not None
        or request.output_format is not None
        # SDKs set `strict` by default, so it has no effect if it cannot be enforced.
        or (enforces_tool_schemas(info, parsers) and any(map(is_strict, request.tools)))
    )


def _chat_constraint(
    request: ChatRequest, model: str, info: Capabilities, parsers: ParserSelection
) -> Constraint | None:
    required = request.tool_choice == "required"
    allowed = None if request.allowed_tools is None else frozenset(request.allowed_tools)
    if request.output_format is not None:
        _check_structured_outputs(model, info, _param(request.output_format))
    if required or allowed is not None:
        _check_structured_outputs(model, info, "tool_choice")
        if parsers.tools is None:
            raise UnsupportedRequestError(
                f"Model {model!r} does not support tool_choice: it has no tool-call parser. Serve it with the --parser "
                "of its model family; `mlx-host parsers` lists them.",
                param="tool_choice",
            )
    if not _constrains_calls(request, info, parsers):
        return None
    # Clients that force a function by name expect one call.
    is_named = required and allowed is not None and len(allowed) == 1
    return OutputConstraint(
        parsers.reasoning,
        parsers.tools,
        [tool for tool in request.tools if allowed is None or tool["function"]["name"] in allowed],
        ToolChoice(required=required, parallel=request.parallel_tool_calls and not is_named),
        request.output_format,
        can_reason=parsers.reasoning is None
        or info.chat_template is None
        or parsers.reasoning.can_reason(info.chat_template),
    )


def _check_parameters(request: GenerationRequest, model: str, info: Capabilities) -> None:
    """Reject parameters that would change the output if the model supported them."""
    for name in OPTIONAL_PARAMETERS:
        value = getattr(request.sampling, name)
        # An empty list of allowed tokens is not the same as none.
        if value is not None and value not in (0, False, ()) and name not in info.supported_parameters:
            raise UnsupportedRequestError(f"Model {model!r} does not support {name}; remove it.", param=name)


def _check_continuation(request: ChatRequest, model: str, info: Capabilities) -> None:
    """Reject a message to continue if the model would begin a new one."""
    if request.continue_final_message and "continue_final_message" not in info.supported_parameters:
        raise UnsupportedRequestError(
            f"Model {model!r} cannot continue the last message; end the conversation with a user message.",
            param="continue_final_message",
        )


def _check_structured_outputs(model: str, info: Capabilities, param: str | None) -> None:
    if not info.structured_outputs:
        raise UnsupportedRequestError(
            f"Model {model!r} does not support {param or 'structured output'}: its backend has no structured output. "
            "Use --backend lm or vlm.",
            param=param,
        )


def _param(grammar: Grammar) -> str | None:
    """Return the request field that a grammar was built from, if it is recorded."""
    params = [leaf.param for leaf in iter_leaves(grammar) if isinstance(leaf, JsonValue | Pattern | LarkGrammar)]
    return params[0] if params else None
