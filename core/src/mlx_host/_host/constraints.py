"""Chooses the constraint of a request's output, from what the request, the model and its parsers support.

The grammar itself is built in the model's process, when the prompt is known: for many large tools it takes a second,
which would block every stream of the host. What it cannot express is rejected there, before the output begins.
"""

from __future__ import annotations

from dataclasses import replace

from mlx_host._host.parser_selection import ParserSelection
from mlx_host.api.tool_choice import is_strict
from mlx_host.backend import Capabilities
from mlx_host.errors import UnsupportedRequestError
from mlx_host.grammar import Constraint, FixedConstraint, Grammar, JsonValue, LarkGrammar, Pattern, iter_leaves
from mlx_host.parsing.constraint import OutputConstraint
from mlx_host.parsing.parser import ToolChoice
from mlx_host.requests import ChatRequest, GenerationRequest, Request


def constrained(request: Request, model: str, info: Capabilities, parsers: ParserSelection) -> Request:
    """Return the request with its constraint; UnsupportedRequestError if the model cannot enforce it."""
    match request:
        case ChatRequest():
            return replace(request, constraint=_of_chat(request, model, info, parsers))
        case GenerationRequest(form=Grammar() as form):
            _must_constrain(model, info, _param(form))
            return replace(request, constraint=FixedConstraint(form))
    return request


def holds_calls(info: Capabilities, parsers: ParserSelection) -> bool:
    """Whether tool calls can be constrained to the schemas of their tools."""
    return info.structured_outputs and parsers.tools is not None


def _of_chat(request: ChatRequest, model: str, info: Capabilities, parsers: ParserSelection) -> Constraint | None:
    required = request.tool_choice == "required"
    allowed = None if request.allowed_tools is None else frozenset(request.allowed_tools)
    if request.form is not None:
        _must_constrain(model, info, _param(request.form))
    if required or allowed is not None:
        _must_constrain(model, info, "tool_choice")
        if parsers.tools is None:
            raise UnsupportedRequestError(
                f"Model {model!r} has no tool-call parser, so tool_choice cannot be enforced. Serve it with the "
                "--parser of its model family; `mlx-host parsers` lists them.",
                param="tool_choice",
            )
    elif request.form is None and not (holds_calls(info, parsers) and any(map(is_strict, request.tools))):
        # SDKs set strict by default; where it cannot be enforced, it has no effect.
        return None
    # Clients expect one call of a function that is forced by name.
    named = required and allowed is not None and len(allowed) == 1
    return OutputConstraint(
        parsers.reasoning,
        parsers.tools,
        [tool for tool in request.tools if allowed is None or tool["function"]["name"] in allowed],
        ToolChoice(required=required, parallel=request.parallel_tool_calls and not named),
        request.form,
        can_reason=parsers.reasoning is None
        or info.chat_template is None
        or parsers.reasoning.can_reason(info.chat_template),
    )


def _must_constrain(model: str, info: Capabilities, param: str | None) -> None:
    if not info.structured_outputs:
        raise UnsupportedRequestError(
            f"Model {model!r} does not support {param or 'structured output'}: its backend has no structured output. "
            "Use --backend lm or vlm.",
            param=param,
        )


def _param(form: Grammar) -> str | None:
    """The request field that a grammar comes from, if it is recorded."""
    params = [leaf.param for leaf in iter_leaves(form) if isinstance(leaf, JsonValue | Pattern | LarkGrammar)]
    return params[0] if params else None
