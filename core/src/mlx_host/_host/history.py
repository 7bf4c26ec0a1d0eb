"""Parses markup in the assistant messages of a request, which were once the output of a model.

Other servers, and this one when a call cannot be parsed, return markup as content, and clients send it back. Some chat
templates reject it there, which would end the conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlx_host._host.parser_factory import make_plain_parser
from mlx_host._host.parser_selection import ParserSelection
from mlx_host.parsing import Content, LiteralMatcher, MarkupParser, Parser, Reasoning, ToolCall
from mlx_host.requests import ChatRequest, ExplainRequest, Json, Request, TokenizeRequest

_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")


def with_parsed_history(request: Request, parsers: ParserSelection) -> Request:
    """Return the request with reasoning, text and calls in the fields of its assistant messages where they belong."""
    match request:
        case TokenizeRequest(prompt=ChatRequest() as prompt) | ExplainRequest(prompt=prompt):
            return replace(request, prompt=_parsed(prompt, parsers))
        case ChatRequest():
            return _parsed(request, parsers)
    return request


def _parsed(request: ChatRequest, parsers: ParserSelection) -> ChatRequest:
    families = [family for family in (parsers.reasoning, parsers.tools) if family is not None]
    rejected = LiteralMatcher(marker for family in families for marker in family.history_markers)
    markers = LiteralMatcher([*rejected.literals, *(text for family in families for text in family.signatures)])
    if not markers.literals:
        return request
    changed = {
        n: _message(message, request, parsers, rejected)
        for n, message in enumerate(request.messages)
        if _has_markup(message, markers, rejected, is_last=n == len(request.messages) - 1)
    }
    if not changed:
        return request
    return replace(request, messages=[changed.get(n, message) for n, message in enumerate(request.messages)])


def _has_markup(message: Any, markers: LiteralMatcher, rejected: LiteralMatcher, *, is_last: bool) -> bool:
    if not isinstance(message, Mapping) or message.get("role") != "assistant":
        return False
    if any(_contains(rejected, message.get(key)) for key in _REASONING_KEYS):
        return True
    # The last message may be the beginning of the output, which the model continues.
    return _contains(rejected if is_last else markers, _text(message.get("content")))


def _contains(matcher: LiteralMatcher, text: object) -> bool:
    return isinstance(text, str) and matcher.find(text, 0, ended=True)[0] < len(text)


def _without(markers: LiteralMatcher, text: str) -> str:
    """Return text without markers. Each is replaced by a space, so that the text around it cannot form another one."""
    cleaned = markers.replace(text, " ")
    return text if cleaned == text else cleaned.strip()


def _text(content: object) -> str | None:
    """Return content that consists of text only; None for other content."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return None
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "\n".join(texts)


def _message(message: Json, request: ChatRequest, parsers: ParserSelection, rejected: LiteralMatcher) -> Json:
    changed = dict(message)
    for key in _REASONING_KEYS:
        if isinstance(reasoning := message.get(key), str):
            changed[key] = _without(rejected, reasoning)
    text = _text(message.get("content"))
    if text is None:
        return changed
    family = parsers.tools or parsers.reasoning
    assert family is not None
    parser = make_plain_parser(parsers, request, _generation_prompt(parsers.reasoning, text))
    parser.truncated = True
    parts = [*parser.feed(text), *parser.finish()]
    calls = [
        {
            "id": part.id or family.new_call_id(),
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in parts
        if isinstance(part, ToolCall)
    ]
    thought = _without(rejected, "".join(part.text for part in parts if isinstance(part, Reasoning)))
    changed["content"] = _without(rejected, "".join(part.text for part in parts if isinstance(part, Content)))
    if thought and not any(changed.get(key) for key in _REASONING_KEYS):
        changed["reasoning_content"] = thought
    if calls:
        changed["tool_calls"] = [*calls, *(message.get("tool_calls") or ())]
    return changed


def _generation_prompt(family: type[Parser] | None, text: str) -> str:
    """Return a prompt that opens reasoning if the text closes reasoning that it has not opened."""
    if family is None or not issubclass(family, MarkupParser) or not family.think_open:
        return ""
    opened, _ = LiteralMatcher(family.think_open).find(text, 0, ended=True)
    closed, _ = LiteralMatcher(family.think_close).find(text, 0, ended=True)
    return family.think_open[0] if closed < opened else ""
