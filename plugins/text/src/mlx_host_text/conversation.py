"""Adapts the roles and the order of messages to what a chat template renders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.requests import Json

from mlx_host_text.tool_notation import ToolNotation

Message = dict[str, Any]
Note = Callable[[str], None]
"""Reports a change in one sentence."""

SEPARATOR = "\n\n"
SYSTEM_OPEN, SYSTEM_CLOSE = "<system_instruction>\n", "\n</system_instruction>"


@dataclass(frozen=True)
class ConversationFormat:
    """The conversations that a chat template renders completely and in order.

    system: a system message at the start. `repeated_system`: several of them. `late_system`: one after other messages.
    repeated_roles: consecutive messages of the user or of the assistant.
    leading_assistant: an assistant message before the first user message.
    user_after_tool: a user message directly after a tool's result.
    tools: descriptions of tools, with `system_for_tools` only if there is a system message.
    tool_calls: calls and their results.
    """

    system: bool = True
    repeated_system: bool = True
    late_system: bool = True
    repeated_roles: bool = True
    leading_assistant: bool = True
    user_after_tool: bool = True
    tools: bool = True
    system_for_tools: bool = False
    tool_calls: bool = True

    def adapt(
        self, messages: Sequence[Message], tools: Sequence[Json], notation: ToolNotation, note: Note
    ) -> list[Message]:
        """Return messages that the template renders; `tools` are those that it has to describe."""
        adapted = list(messages)
        if not self.tool_calls:
            adapted = _write_calls_as_text(adapted, notation, note)
        if tools and not self.tools and notation.describes_tools:
            adapted = _describe_tools(adapted, tools, notation, note)
        elif tools and self.system_for_tools and _leading_system_messages(adapted) == 0:
            note("An empty system message is added at the start: the chat template renders tools there only.")
            adapted = [{"role": "system", "content": ""}, *adapted]
        if not self.late_system:
            adapted = _move_late_system_messages(adapted, note)
        adapted = self._adapt_leading_system_messages(adapted, note)
        if not self.leading_assistant:
            adapted = _insert_leading_user_message(adapted, note)
        if not self.repeated_roles:
            adapted = _join_repeated_roles(adapted, note)
        if not self.user_after_tool:
            adapted = _separate_tool_and_user(adapted, note)
        return adapted

    def _adapt_leading_system_messages(self, messages: list[Message], note: Note) -> list[Message]:
        count = _leading_system_messages(messages)
        if count == 0 or (self.system and (count == 1 or self.repeated_system)):
            return messages
        content = join_content(*[message["content"] for message in messages[:count]])
        rest = messages[count:]
        if self.system:
            note(f"The {count} system messages at the start are joined: the chat template renders one.")
            return [{**messages[0], "content": content}, *rest]
        note("The system message is part of the first user message: the chat template has no system role.")
        if rest and rest[0]["role"] == "user":
            return [{**rest[0], "content": join_content(content, rest[0]["content"])}, *rest[1:]]
        return [{"role": "user", "content": content}, *rest]


def join_content(*contents: Any, separator: str = SEPARATOR) -> Any:
    """Join contents in the form that the template receives: texts, or lists of parts."""
    present = [content for content in contents if content]
    if all(isinstance(content, str) for content in present):
        return separator.join(present)
    joined: list[Any] = []
    for content in present:
        parts = [typed_text(content)] if isinstance(content, str) else list(content)
        if joined and separator:
            parts = _after_separator(parts, separator)
        joined += parts
    return joined


def typed_text(text: str) -> dict[str, str]:
    """Return a text part; templates read the text under either name."""
    return {"type": "text", "text": text, "content": text}


def _after_separator(parts: list[Any], separator: str) -> list[Any]:
    first = parts[0] if parts else None
    if isinstance(first, Mapping) and isinstance(first.get("text"), str):
        return [{**first, **typed_text(separator + first["text"])}, *parts[1:]]
    return [typed_text(separator), *parts]


def _leading_system_messages(messages: Sequence[Message]) -> int:
    return next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))


def _describe_tools(
    messages: list[Message], tools: Sequence[Json], notation: ToolNotation, note: Note
) -> list[Message]:
    note("The tools are described in the system message: the chat template does not render them.")
    description = notation.describe(tools)
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": join_content(messages[0]["content"], description)}, *messages[1:]]
    return [{"role": "system", "content": description}, *messages]


def _write_calls_as_text(messages: list[Message], notation: ToolNotation, note: Note) -> list[Message]:
    """Write calls as the assistant's text, and each run of results as one user message."""
    written: list[Message] = []
    in_results = False
    for message in messages:
        is_result = message["role"] == "tool"
        if is_result:
            before, after = notation.result_markup(message.get("name"))
            content = join_content(before, message["content"], after, separator="")
            if in_results:
                written[-1]["content"] = join_content(written[-1]["content"], content, separator="\n")
            else:
                written.append({"role": "user", "content": content})
        elif message.get("tool_calls"):
            note("Tool calls and results are written as text: the chat template does not render them.")
            kept = {key: value for key, value in message.items() if key != "tool_calls"}
            calls = notation.write_calls(message["tool_calls"])
            written.append({**kept, "content": join_content(message["content"], calls, separator="\n")})
        else:
            written.append(message)
        in_results = is_result
    return written


def _move_late_system_messages(messages: list[Message], note: Note) -> list[Message]:
    """Turn each late system message into marked text at the start of the next user message.

    It never moves before an earlier message, so that the prompts of earlier turns remain prefixes. If no user message
    follows, it becomes one, behind the results of open calls.
    """
    start = _leading_system_messages(messages)
    moved = messages[:start]
    pending: list[Any] = []
    for message in messages[start:]:
        if message["role"] == "system":
            note("A late system message is moved to the next user message: the chat template renders none there.")
            pending.append(join_content(SYSTEM_OPEN, message["content"], SYSTEM_CLOSE, separator=""))
            continue
        if pending and message["role"] == "user":
            message = {**message, "content": join_content(*pending, message["content"])}
            pending = []
        elif pending and message["role"] != "tool":
            moved.append({"role": "user", "content": join_content(*pending)})
            pending = []
        moved.append(message)
    if pending:
        moved.append({"role": "user", "content": join_content(*pending)})
    return moved


def _insert_leading_user_message(messages: list[Message], note: Note) -> list[Message]:
    start = _leading_system_messages(messages)
    if start == len(messages) or messages[start]["role"] != "assistant":
        return messages
    note("An empty user message is added at the start: the chat template requires a user message first.")
    return [*messages[:start], {"role": "user", "content": ""}, *messages[start:]]


def _join_repeated_roles(messages: list[Message], note: Note) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        joinable = last is not None and last["role"] == message["role"] and message["role"] in ("user", "assistant")
        if joinable and last is not None and not last.get("tool_calls"):
            note("Consecutive messages of one role are joined: the chat template requires alternating roles.")
            joined[-1] = {**last, **message, "content": join_content(last["content"], message["content"])}
        else:
            joined.append(message)
    return joined


def _separate_tool_and_user(messages: list[Message], note: Note) -> list[Message]:
    separated: list[Message] = []
    for message in messages:
        if separated and separated[-1]["role"] == "tool" and message["role"] == "user":
            note("An empty assistant message is added between a tool result and the next user message.")
            separated.append({"role": "assistant", "content": ""})
        separated.append(message)
    return separated
