"""Converts Anthropic's messages and content blocks to OpenAI's messages, the format of ChatRequest.

A block of a conversation is either passed to the model, or dropped and listed in the header of ignored fields, as are
types that this server does not know. Malformed blocks are rejected only in the new turn, that is, in the messages
after the last assistant message: clients send their whole history with every request, so an error in an earlier message
would make the conversation unusable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from mlx_host.errors import InvalidRequestError
from mlx_host.requests import Json

from mlx_host_messages import blocks
from mlx_host_messages.blocks import Part, UnreadableSourceError
from mlx_host_messages.schema import AnthropicMessage, Block
from mlx_host_messages.tools import ToolChange

SUMMARY = "Summary of the conversation so far:\n\n"
CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
# Hosted tools: "web_search_tool_result", "bash_code_execution_tool_result" and so on.
SERVER_RESULT = "_tool_result"
INDEX = re.compile(r"\.\d+")


class Conversation:
    """A converted conversation.

    `messages` are OpenAI's messages, and `paths` has for each of them the path of the original and of its content
    parts. `tool_changes` are the tools that the conversation adds and removes. `continues` is whether the output
    continues the last message. `ignored` lists what was dropped. `normalize` is applied to system prompts.
    """

    def __init__(
        self, system: str | list[Any] | None, messages: Sequence[AnthropicMessage], normalize: Callable[[str], str]
    ) -> None:
        self.messages: list[Json] = []
        self.paths: list[tuple[str, Sequence[str]]] = []
        self.tool_changes: list[ToolChange] = []
        self.ignored: set[str] = set()
        self._call_ids: set[str] = set()
        self._normalize = normalize
        self._is_new = True
        if system is not None:
            self._system(system, "system")
        roles = [message.role for message in messages]
        new = max((index for index, role in enumerate(roles) if role == "assistant"), default=-1) + 1
        for index, message in enumerate(messages):
            self._is_new = index >= new
            self._convert(partial(self._message, message, index, roles), f"messages.{index}.role", message.role)
        self.continues = self._ends_with_open_message(messages[-1])

    def _message(self, message: AnthropicMessage, index: int, roles: Sequence[str]) -> None:
        path = f"messages.{index}.content"
        match message.role:
            case "user":
                self._user(message.content, path)
            case "assistant":
                self._assistant(message.content, path)
            case "system":
                is_cleared = message.clear_at == "next_user_message" and "user" in roles[index + 1 :]
                self._system([] if message.content is None else message.content, path, is_cleared=is_cleared)
            case role:
                param = f"messages.{index}.role"
                raise InvalidRequestError(f"{param} must be user, assistant or system, got {role!r}.", param=param)

    def _convert(self, convert: Callable[[], None], path: str, kind: str) -> None:
        """Convert one message or block; drop it if it is malformed and not part of the new turn."""
        try:
            convert()
        except InvalidRequestError:
            if self._is_new:
                raise
            self._drop(path, kind)

    def _drop(self, path: str, kind: str) -> None:
        self.ignored.add(f"{INDEX.sub('', path)}.{kind}")

    def _blocks(self, content: Any, path: str) -> Iterator[tuple[str, Block, str]]:
        """Yield the type, the block and the path of each block."""
        for block, block_path in blocks.typed_blocks(content, path):
            try:
                kind = blocks.block_type(block, block_path)
            except InvalidRequestError:
                if self._is_new:
                    raise
                self.ignored.add(INDEX.sub("", block_path))
                continue
            yield kind, block, block_path

    def _append(self, message: Json, path: str, parts: Sequence[str] = ()) -> None:
        self.messages.append(message)
        self.paths.append((path, parts))

    # System prompts

    def _system(self, content: str | list[Any], path: str, *, is_cleared: bool = False) -> None:
        texts = [content] if isinstance(content, str) else []

        def add(block: Block, path: str) -> None:
            texts.append(blocks.string(block, "text", path))

        for kind, block, block_path in self._blocks([] if isinstance(content, str) else content, path):
            match kind:
                case "text":
                    self._convert(partial(add, block, block_path), block_path, kind)
                case "tool_addition" | "tool_removal":
                    self._change_tools(kind, block, block_path)
                case _:
                    self._drop(block_path, kind)
        text = self._normalize("\n".join(texts))
        if text and not is_cleared:
            self._append({"role": "system", "content": text}, path.removesuffix(".content"))

    def _change_tools(self, kind: str, block: Block, path: str) -> None:
        """Record which tools a tool_addition or tool_removal block names: one or, in a field in the plural, several."""
        source = f"{INDEX.sub('', path)}.{kind}"
        is_removal = kind == "tool_removal"
        changed = block.get("tool", block.get("tools"))
        tools: list[Any] = changed if isinstance(changed, list) else [changed]
        for tool in tools:
            match tool:
                case {"definition": dict() as definition} if not is_removal:
                    self.tool_changes.append(ToolChange(str(definition.get("name")), source, definition))
                case {"name": str() as name, "input_schema": dict()} if not is_removal:
                    self.tool_changes.append(ToolChange(name, source, tool))
                case {"name": str() as name} | {"tool_name": str() as name} if "server_name" not in tool:
                    self.tool_changes.append(ToolChange(name, source, is_removal=is_removal))
                case _:
                    self.ignored.add(source)

    # User messages

    def _user(self, content: str | list[Any] | None, path: str) -> None:
        """Convert a user message; each tool result becomes a separate message in OpenAI's format."""
        message_path = path.removesuffix(".content")
        if isinstance(content, str):
            self._append({"role": "user", "content": content}, message_path)
            return
        first = len(self.messages)
        parts: list[tuple[Part, str]] = []

        def flush() -> None:
            if parts:
                converted, paths = zip(*parts, strict=True)
                self._append({"role": "user", "content": blocks.joined(list(converted))}, message_path, paths)
                parts.clear()

        for kind, block, block_path in self._blocks(content, path):
            if kind == "tool_result":
                flush()
                self._tool_result(block, block_path)
            elif kind == "compaction":
                parts.clear()
                if self._compact(block, block_path):
                    first = -1
            else:
                parts += self._parts(kind, block, block_path)
        flush()
        if len(self.messages) == first:
            self._append({"role": "user", "content": ""}, message_path)

    def _tool_result(self, block: Block, path: str) -> None:
        def convert() -> None:
            content = block.get("content") or ""
            parts = [(blocks.text_part("Error:"), path)] if block.get("is_error") is True else []
            if isinstance(content, str):
                parts += [(blocks.text_part(content), path)] if content or not parts else []
            else:
                parts += self._nested(content, f"{path}.content")
            converted = [part for part, _ in parts]
            id = blocks.string(block, "tool_use_id", path)
            message = {"role": "tool", "tool_call_id": id, "content": blocks.joined(converted)}
            self._append(message, path, [part_path for _, part_path in parts])

        self._convert(convert, path, "tool_result")

    def _nested(self, content: Any, path: str) -> list[tuple[Part, str]]:
        """Convert the blocks inside a block."""
        return [
            part
            for kind, block, block_path in self._blocks(content, path)
            for part in self._parts(kind, block, block_path)
        ]

    def _parts(self, kind: str, block: Block, path: str) -> list[tuple[Part, str]]:
        """Convert a block to content parts of an OpenAI message with their paths."""
        try:
            return [(part, path) if isinstance(part, dict) else part for part in self._converted(kind, block, path)]
        except UnreadableSourceError:
            # A note keeps the model from inventing the content.
            self._drop(path, kind)
            parts = [blocks.text_part(f"[The {kind} cannot be shown: this server cannot read its source.]")]
            return [(part, path) for part in [*blocks.headers(block, "title", "context"), *parts]]
        except InvalidRequestError:
            if self._is_new:
                raise
            self._drop(path, kind)
            return []

    def _converted(self, kind: str, block: Block, path: str) -> list[Part | tuple[Part, str]]:
        match kind:
            case "text":
                return [blocks.text_part(blocks.string(block, "text", path))]
            case "image":
                return [{"type": "image_url", "image_url": {"url": blocks.image_url(block, path)}}]
            case "document":
                content = blocks.document_content(block, path)
                header = blocks.headers(block, "title", "context")
                if isinstance(content, str):
                    return [*header, blocks.text_part(content)]
                return [*header, *self._nested(content, f"{path}.source.content")]
            case "search_result":
                header = blocks.headers(block, "title", "source")
                return [*header, *self._nested(block.get("content"), f"{path}.content")]
            case "tool_reference":
                name = blocks.string(block, "tool_name", path)
                self.tool_changes.append(ToolChange(name, source=None))
                return [blocks.text_part(f"The tool {name} is now available.")]
        self._drop(path, kind)
        return []

    # Assistant messages

    def _assistant(self, content: str | list[Any] | None, path: str) -> None:
        """Convert a message; the result of a tool that another server ran ends it and begins another one."""
        message_path = path.removesuffix(".content")
        message = _AssistantMessage()
        first = len(self.messages)

        def flush() -> None:
            nonlocal message
            if not message.is_empty:
                self._append(message.json(), message_path)
                self._call_ids.update(call["id"] for call in message.calls)
            message = _AssistantMessage()

        def convert(kind: str, block: Block, block_path: str) -> None:
            nonlocal first
            if kind == "text":
                message.texts.append(blocks.string(block, "text", block_path))
            elif kind == "thinking":
                message.reasoning.append(blocks.string(block, "thinking", block_path))
            elif kind in CALLS:
                message.calls.append(blocks.call(block, block_path))
            elif kind.endswith(SERVER_RESULT):
                flush()
                id = blocks.string(block, "tool_use_id", block_path)
                if id not in self._call_ids:
                    self._drop(block_path, kind)
                    return
                result = blocks.server_result(block.get("content"))
                self._append({"role": "tool", "tool_call_id": id, "content": result}, block_path)
            elif kind == "compaction":
                message.clear()
                if self._compact(block, block_path):
                    first = -1
            else:
                self._drop(block_path, kind)

        if isinstance(content, str):
            message.texts.append(content)
        else:
            for kind, block, block_path in self._blocks([] if content is None else content, path):
                self._convert(partial(convert, kind, block, block_path), block_path, kind)
        flush()
        if len(self.messages) == first:
            self._append({"role": "assistant", "content": ""}, message_path)

    def _compact(self, block: Block, path: str) -> bool:
        """Replace all messages before a compaction block by its summary; without a summary, do nothing."""
        summary = block.get("content")
        has_summary = isinstance(summary, str) and bool(summary)
        if has_summary:
            prompts = 1 if self.paths and self.paths[0][0] == "system" else 0
            del self.messages[prompts:], self.paths[prompts:]
            self.tool_changes.clear()
            self._append({"role": "user", "content": f"{SUMMARY}{summary}"}, path)
        elif block.get("encrypted_content"):
            self._drop(path, "compaction")
        changes = block.get("tool_changes")
        for kind, change, change_path in self._blocks([] if changes is None else changes, f"{path}.tool_changes"):
            self._change_tools(kind, change, change_path)
        return has_summary

    def _ends_with_open_message(self, last: AnthropicMessage) -> bool:
        """Whether the last message is text of the assistant; remove an empty one."""
        message = self.messages[-1] if self.messages else {}
        if last.role != "assistant" or message.get("role") != "assistant" or "tool_calls" in message:
            return False
        if message["content"]:
            return True
        if "reasoning_content" not in message and len(self.messages) > 1:
            del self.messages[-1], self.paths[-1]
        return False


class _AssistantMessage:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []

    @property
    def is_empty(self) -> bool:
        return not (self.texts or self.reasoning or self.calls)

    def clear(self) -> None:
        for parts in (self.texts, self.reasoning, self.calls):
            parts.clear()

    def json(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "\n".join(self.texts)}
        if any(self.reasoning):
            message["reasoning_content"] = "\n".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = self.calls
        return message
