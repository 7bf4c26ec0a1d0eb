"""Detects what a chat template expects and renders, by rendering probe messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlx_host.requests import Json

from mlx_host_text.conversation import ConversationFormat
from mlx_host_text.messages import REASONING_KEYS, SHORT_ID_LENGTH, TemplateFormat

Render = Callable[[Sequence[Json], Sequence[Json]], str | None]
"""Messages and tools to text; None if the template raises."""

KEY = "probekey"
VALUES = ("probevalueone", "probevaluetwo")
NAME = "probetool"
OTHER_NAME = "probeother"
CALL_ID = f"call_{VALUES[0]}"
THINKING = "probethinking"
RESULT = "proberesult"
PARAMETERS = {"type": "object", "properties": {KEY: {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": NAME, "description": NAME, "parameters": PARAMETERS}}]


def detect_template_format(render: Render) -> TemplateFormat:
    """Detect the format; properties that cannot be observed, as in templates without tool calls, keep their default."""
    detected = TemplateFormat()
    if _render(render, detected) is None and _render(render, detected, arguments="string") is None:
        detected = replace(detected, long_ids=False)
    as_mapping, as_string = _render(render, detected), _render(render, detected, arguments="string")
    if as_mapping is None and as_string is None:
        return _detect_reasoning_without_calls(render)
    # A mapping concatenated to text is rendered as a Python repr, which no model was trained on.
    if as_string is not None and (as_mapping is None or f"{{'{KEY}'" in as_mapping):
        detected = replace(detected, arguments="string")
    alone = _render(render, detected, name=OTHER_NAME, results=False)
    if alone is not None and CALL_ID in alone and OTHER_NAME not in alone:
        detected = replace(detected, named_ids=True)
    both = _render(render, detected, calls=2)
    if both is None or (VALUES[0] in both and VALUES[1] not in both):
        detected = replace(detected, parallel_calls=False)
    for key in REASONING_KEYS:
        shown = _render(render, detected, extra={key: THINKING})
        if shown is not None and THINKING in shown:
            combined = _render(render, detected, extra={key: THINKING, "content": "probecontent"})
            return replace(detected, reasoning_key=key, content_with_reasoning=combined is not None)
    return detected


def detect_conversation_format(render: Render, calls: TemplateFormat) -> ConversationFormat:
    """Detect the conversations that a template renders; `calls` is its format of calls.

    A template that does not even render a user message is assumed to render everything.
    """
    user, assistant, system = "probeuser", "probeassistant", "probesystem"

    def shows(*messages: tuple[str, str], tools: bool = False) -> bool:
        text = render([{"role": role, "content": content} for role, content in messages], TOOLS if tools else ())
        return text is not None and _in_order(text, [content for _, content in messages])

    if not shows(("user", user)):
        return ConversationFormat()
    with_tools = _shows_tools(render, {"role": "user", "content": user})
    with_system = _shows_tools(render, {"role": "system", "content": ""}, {"role": "user", "content": user})
    history = _render(render, calls)
    tool_calls = history is not None and _in_order(history, [VALUES[0], RESULT])
    after_tool = _render(render, calls, following=[{"role": "user", "content": user}])
    separated = [{"role": "assistant", "content": ""}, {"role": "user", "content": user}]
    repairable = _render(render, calls, following=separated) is not None
    return ConversationFormat(
        system=shows(("system", system), ("user", user)),
        repeated_system=shows(("system", system), ("system", f"{system}two"), ("user", user)),
        late_system=shows(("user", user), ("assistant", assistant), ("system", system), ("user", f"{user}two"))
        and shows(("system", system), ("user", user), ("system", f"{system}two")),
        repeated_roles=shows(("user", user), ("user", f"{user}two"))
        and shows(("user", user), ("assistant", assistant), ("assistant", f"{assistant}two"), ("user", f"{user}two")),
        leading_assistant=shows(("assistant", assistant), ("user", user)),
        user_after_tool=after_tool is not None or not repairable,
        tools=with_tools or with_system,
        system_for_tools=with_system and not with_tools,
        tool_calls=tool_calls,
    )


def _shows_tools(render: Render, *messages: Json) -> bool:
    text = render(messages, TOOLS)
    return text is not None and NAME in text


def _in_order(text: str, parts: Sequence[str]) -> bool:
    position = 0
    for part in parts:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return True


def _detect_reasoning_without_calls(render: Render) -> TemplateFormat:
    for key in REASONING_KEYS:
        message = {"role": "assistant", "content": "probecontent", key: THINKING}
        shown = render([{"role": "user", "content": "probequestion"}, message], ())
        if shown is not None and THINKING in shown:
            return TemplateFormat(reasoning_key=key)
    return TemplateFormat()


def _render(
    render: Render,
    detected: TemplateFormat,
    *,
    arguments: str = "",
    calls: int = 1,
    extra: Mapping[str, str] | None = None,
    name: str = NAME,
    results: bool = True,
    following: Sequence[Json] = (),
) -> str | None:
    """Render a question, an assistant message with calls, their results, and the messages that follow."""
    shape = arguments or detected.arguments
    tool_calls = [_call(name, value, shape, detected.long_ids) for value in VALUES[:calls]]
    outputs = [{"role": "tool", "tool_call_id": call["id"], "name": name, "content": RESULT} for call in tool_calls]
    message = {"role": "assistant", "content": "", "tool_calls": tool_calls, **(extra or {})}
    messages = [{"role": "user", "content": "probequestion"}, message, *(outputs if results else ()), *following]
    return render(messages, TOOLS)


def _call(name: str, value: str, shape: str, long_id: bool) -> dict[str, Any]:
    arguments = {KEY: value}
    return {
        "type": "function",
        "id": f"call_{value}" if long_id else value[-SHORT_ID_LENGTH:],
        "function": {"name": name, "arguments": json.dumps(arguments) if shape == "string" else arguments},
    }
