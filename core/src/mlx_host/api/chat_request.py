"""From the body of POST /v1/chat/completions to a ChatRequest; what cannot be honoured is refused by name."""

from __future__ import annotations

import uuid
from typing import Any

from mlx_host.api.chat_schema import ChatBody, NamedToolChoice
from mlx_host.errors import InvalidRequest
from mlx_host.requests import ChatRequest, Priority, Sampling

PRIORITIES = {"flex": Priority.LOW, "priority": Priority.HIGH, "fast": Priority.HIGH}
SAMPLING = tuple(name for name in Sampling.__dataclass_fields__ if name != "logit_bias")
MOST_STOPS = 16


def to_request(body: ChatBody) -> ChatRequest:
    """Translate a body; InvalidRequest names what cannot be honoured."""
    if body.response_format is not None and body.response_format.type != "text":
        raise InvalidRequest(
            f"response_format {body.response_format.type!r} is not supported by this server; 'text' is.",
            param="response_format",
        )
    for name in ("functions", "audio", "web_search_options"):
        if getattr(body, name):
            instead = "; use tools" if name == "functions" else ""
            raise InvalidRequest(f"{name} is not supported by this server{instead}.", param=name)
    if set(body.modalities or ()) - {"text"}:
        raise InvalidRequest("modalities: this server answers with text only.", param="modalities")
    choice = body.tool_choice or "auto"
    if isinstance(choice, NamedToolChoice) or choice == "required":
        raise InvalidRequest(
            "tool_choice cannot force a call here; 'auto' and 'none' are supported.", param="tool_choice"
        )
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stops) > MOST_STOPS:
        raise InvalidRequest(f"stop: at most {MOST_STOPS} strings, got {len(stops)}.", param="stop")
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    template_kwargs = dict(body.chat_template_kwargs or {})
    for name in ("reasoning_effort", "enable_thinking"):
        if (value := getattr(body, name)) is not None:
            template_kwargs.setdefault(name, value)
    return ChatRequest(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        model=body.model or "",
        priority=PRIORITIES.get(body.service_tier or "", Priority.NORMAL),
        messages=[_message(dict(message)) for message in body.messages],
        tools=() if choice == "none" else [tool.model_dump(exclude_unset=True) for tool in body.tools or ()],
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        sampling=Sampling(
            **{name: value for name in SAMPLING if (value := getattr(body, name)) is not None},
            logit_bias=_logit_bias(body.logit_bias or {}),
        ),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=tuple(stop for stop in stops if stop),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        n=body.n or 1,
        template_kwargs=template_kwargs,
    )


def _message(message: dict[str, Any]) -> dict[str, Any]:
    # Clients send the SDK's own answers back, with null for all that an answer did not have.
    kept = {key: value for key, value in message.items() if value is not None or key == "content"}
    if kept["role"] == "developer":
        kept["role"] = "system"
    return kept


def _logit_bias(given: dict[str, float]) -> dict[int, float]:
    try:
        return {int(token): bias for token, bias in given.items()}
    except ValueError:
        raise InvalidRequest("logit_bias: the keys must be token ids.", param="logit_bias") from None
