"""The response object without its output: the request's fields, and the effective values of the sampling parameters."""

from __future__ import annotations

import time
from typing import Any

from mlx_host._apis.responses.schema import ResponsesBody
from mlx_host.api import ModelStatus, OutputCompleted

# The values of sampling parameters that neither the request nor the model sets.
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
# Fields that are returned as given, whether or not they have an effect.
ECHOED = ("max_output_tokens", "max_tool_calls", "previous_response_id", "prompt_cache_key", "safety_identifier")


def new_response(body: ResponsesBody, id: str, model: ModelStatus) -> dict[str, Any]:
    """Return the response object without output; omitted fields are null or have OpenAI's default.

    Source: Open Responses, `ResponseResource` of its OpenAPI document 2026-04-24, in which all fields are required.
    """
    reasoning = body.reasoning
    conversation = body.conversation_id()
    return {
        "id": id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": body.background is True,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "metadata": body.metadata or {},
        "model": model.name,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "reasoning": {
            "effort": reasoning.effort if reasoning is not None else None,
            "summary": body.reasoning_summary(),
        },
        "service_tier": "default" if body.service_tier in (None, "auto") else body.service_tier,
        "store": body.store is not False,
        "text": _text(body),
        "tool_choice": _tool_choice(body),
        "tools": [_tool(tool) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "truncation": body.truncation or "disabled",
        "usage": None,
        **({} if conversation is None else {"conversation": {"id": conversation}}),
        **{name: getattr(body, name) for name in ECHOED},
        **{name: _effective_value(body, model, name) for name in SAMPLING},
    }


def _effective_value(body: ResponsesBody, model: ModelStatus, name: str) -> float:
    given: float | None = getattr(body, name)
    if given is not None:
        return given
    defaults = model.capabilities.sampling_defaults if model.capabilities is not None else {}
    return defaults.get(name, SAMPLING[name])


def _text(body: ResponsesBody) -> dict[str, Any]:
    if body.text is None:
        return {"format": {"type": "text"}}
    verbosity = {} if body.text.verbosity is None else {"verbosity": body.text.verbosity}
    format = body.text.format
    if format is None:
        return {"format": {"type": "text"}, **verbosity}
    given = format.model_dump(by_alias=True, exclude_unset=True)
    if format.type == "json_schema":
        given = {"description": None, "strict": False} | {
            key: value for key, value in given.items() if value is not None
        }
    return {"format": given, **verbosity}


def _tool_choice(body: ResponsesBody) -> Any:
    choice = body.tool_choice or "auto"
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return {"mode": "auto", **choice}
    return choice


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}


def usage_json(output: OutputCompleted) -> dict[str, Any]:
    """Return the usage object of the Responses API, with all fields that any version of the SDKs requires."""
    return {
        "input_tokens": output.prompt_tokens,
        "input_tokens_details": {"cached_tokens": output.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": output.reasoning_tokens},
        "total_tokens": output.prompt_tokens + output.completion_tokens,
    }
