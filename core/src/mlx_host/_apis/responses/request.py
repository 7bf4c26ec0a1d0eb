"""From the body of POST /v1/responses to a ChatRequest; what cannot be honoured is refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mlx_host._apis.responses.input import Item, new_id, to_messages
from mlx_host._apis.responses.schema import InputBody, ResponsesBody
from mlx_host.api.tool_choice import choose
from mlx_host.errors import InvalidRequest
from mlx_host.requests import ChatRequest


def to_request(body: ResponsesBody, items: Sequence[Item]) -> ChatRequest:
    """Translate a body, `items` being the whole conversation; InvalidRequest names what cannot be honoured."""
    if body.background:
        raise InvalidRequest("background is not supported by this server; stream the answer.", param="background")
    return replace(
        to_prompt(body, items),
        priority=body.priority(),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        sampling=body.sampling(),
        max_tokens=body.max_output_tokens,
        stop=body.stops(),
        top_logprobs=(body.top_logprobs or 0) if body.wants_logprobs else None,
    )


def to_prompt(body: InputBody, items: Sequence[Item]) -> ChatRequest:
    """Translate what makes the prompt."""
    for name in ("conversation", "prompt"):
        if getattr(body, name):
            raise InvalidRequest(f"{name} is not supported by this server.", param=name)
    format = body.text.format if body.text is not None else None
    tools = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(body.tools or ())]
    messages = to_messages(body.instructions, items)
    if not messages:
        raise InvalidRequest("input is missing: a string or a list of items.", param="input")
    return ChatRequest(
        id=new_id("resp"),
        model=body.model or "",
        messages=messages,
        **choose(body.tool_choice, tools),
        form=body.form(format.form() if format is not None else None, "text.format"),
        template_kwargs=body.template_kwargs(body.reasoning.effort if body.reasoning is not None else None),
    )


@contextmanager
def blaming_input() -> Iterator[None]:
    """What a model finds wrong with the messages is wrong with the input: name the field that the client knows."""
    try:
        yield
    except InvalidRequest as error:
        if error.param == "messages":
            error.param = "input"
        raise


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise InvalidRequest(
            f"{where} is of type {tool.get('type')!r}, which is not supported by this server; 'function' is.",
            param=f"{where}.type",
        )
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise InvalidRequest(f"{where}.name must be a string that is not empty.", param=f"{where}.name")
    for key, kind in (("description", str), ("parameters", dict), ("strict", bool)):
        if not isinstance(tool.get(key), kind | None):
            raise InvalidRequest(f"{where}.{key} is of the wrong type.", param=f"{where}.{key}")
    # Left out, strict is true for OpenAI; a schema that cannot be held to would then be refused unasked.
    kept = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool[key] for key in kept if tool.get(key) is not None}}
