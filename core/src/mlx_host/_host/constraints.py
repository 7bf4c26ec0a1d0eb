"""What the model is held to, once it is known what the model and its parsers can do.

Whether the parsers can say it shows in the model's process, which makes the grammar once it knows the prompt; what they
refuse there is refused before the answer begins. Many large tools take a second, which all streams here would wait.
"""

from __future__ import annotations

from dataclasses import replace

from mlx_host._host.parser_selection import Parsers
from mlx_host.api.tool_choice import is_strict
from mlx_host.backend import Capabilities
from mlx_host.errors import UnsupportedRequest
from mlx_host.grammar import Constraint, Form, Grammar, JsonValue, LarkGrammar, Pattern, leaves
from mlx_host.parsing.constraint import AnswerConstraint
from mlx_host.parsing.parser import ToolChoice
from mlx_host.requests import ChatRequest, GenerationRequest, Request


def constrained(request: Request, model: str, info: Capabilities, parsers: Parsers) -> Request:
    """Give a request to `model` the constraint that it asks for; UnsupportedRequest where it cannot be kept to it."""
    match request:
        case ChatRequest():
            return replace(request, constraint=_of_chat(request, model, info, parsers))
        case GenerationRequest(form=Grammar() as form):
            _must_constrain(model, info, _param(form))
            return replace(request, constraint=Form(form))
    return request


def holds_calls(info: Capabilities, parsers: Parsers) -> bool:
    """Whether calls can be held to the schemas of their tools."""
    return info.structured_outputs and parsers.tools is not None


def _of_chat(request: ChatRequest, model: str, info: Capabilities, parsers: Parsers) -> Constraint | None:
    required = request.tool_choice == "required"
    allowed = request.allowed_tools
    if request.form is not None:
        _must_constrain(model, info, _param(request.form))
    if required or allowed is not None:
        _must_constrain(model, info, "tool_choice")
        if parsers.tools is None:
            raise UnsupportedRequest(
                f"tool_choice cannot be kept: no parser reads the calls of model {model!r}. Serve it with the --parser "
                "of its family; `mlx-host parsers` lists them.",
                param="tool_choice",
            )
    elif request.form is None and not (holds_calls(info, parsers) and any(map(is_strict, request.tools))):
        # Clients say strict out of habit; where nothing can hold to it, the answer is what it was without.
        return None
    # A function that is forced by its name is called once; clients count on that.
    named = required and allowed is not None and len(allowed) == 1
    return AnswerConstraint(
        parsers.reasoning,
        parsers.tools,
        [tool for tool in request.tools if allowed is None or tool["function"]["name"] in allowed],
        ToolChoice(required=required, parallel=request.parallel_tool_calls and not named),
        request.form,
        thinks=parsers.reasoning is None or info.chat_template is None or parsers.reasoning.thinks(info.chat_template),
    )


def _must_constrain(model: str, info: Capabilities, param: str | None) -> None:
    if not info.structured_outputs:
        raise UnsupportedRequest(
            f"Model {model!r} cannot be held to {param or 'the form asked for'}: its backend does not constrain what "
            "is written. A model of one that does, such as lm, can.",
            param=param,
        )


def _param(form: Grammar) -> str | None:
    """The field of the request that brought a form, where the form knows it."""
    params = [leaf.param for leaf in leaves(form) if isinstance(leaf, JsonValue | Pattern | LarkGrammar)]
    return params[0] if params else None
