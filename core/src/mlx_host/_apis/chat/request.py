"""Translates the body of POST /v1/chat/completions to a ChatRequest, and rejects unsupported fields."""

from __future__ import annotations

import uuid

from mlx_host._apis.chat.schema import ChatBody
from mlx_host.api.chat_messages import request_messages, request_tools
from mlx_host.api.tool_choice import choose
from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ChatRequest


def to_request(body: ChatBody) -> ChatRequest:
    """Translate a body; InvalidRequestError names a field that is not supported."""
    if body.functions:
        raise InvalidRequestError("functions is not supported by this server; use tools.", param="functions")
    for name, options in (("audio", body.audio), ("web_search_options", body.web_search_options)):
        # An empty object also requests the feature.
        if options is not None:
            raise InvalidRequestError(f"{name} is not supported by this server.", param=name)
    if set(body.modalities or ()) - {"text"}:
        raise InvalidRequestError(
            "modalities must be ['text']; others are not supported by this server.", param="modalities"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequestError("top_logprobs requires logprobs: true.", param="top_logprobs")
    return ChatRequest(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        model=body.model or "",
        priority=body.queue_priority(),
        messages=request_messages(body.messages),
        **body.prompt_end(body.messages),
        **choose(body.tool_choice, request_tools(body.tools)),
        stream_tool_arguments=body.stream is True,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        sampling=body.sampling(),
        max_tokens=body.max_completion_tokens or body.token_limit(),
        max_reasoning_tokens=body.max_reasoning_tokens(),
        stop=body.stops(),
        include_stop=body.include_stop_str_in_output is True,
        cache_salt=body.cache_salt,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        n=body.n or 1,
        output_format=body.output_format(
            body.response_format.output_format() if body.response_format is not None else None, "response_format"
        ),
        template_kwargs=body.template_kwargs(body.reasoning_effort),
    )
