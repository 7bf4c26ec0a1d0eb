"""Converts normalized items to chat messages, and decides how each type of item is treated.

A type is passed to the model as a message, a call or a result, or it is dropped and reported as ignored. So are unknown
types, because a client cannot change the history of its conversation. Source: the OpenAI SDK's
`types/responses/response_input_item_param.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_host._apis.responses import opaque
from mlx_host._apis.responses.items import Item, chat_part, normalize_items
from mlx_host._apis.responses.tools import TOOL_SEARCH, ToolCatalog
from mlx_host.api.custom_tools import custom_arguments
from mlx_host.api.history_media import MODALITIES, OMITTED
from mlx_host.api.http import dumps
from mlx_host.errors import InvalidRequestError, RequestError

SUMMARY = "The conversation before this message was compacted. This is its summary:\n\n"
CLIENT_TYPES = {"image_url": "input_image", "file": "input_file"}
MESSAGE_PATH = re.compile(r"messages\[(\d+)\](?:\.content(?:\[(\d+)\])?)?")


@dataclass(frozen=True)
class Source:
    """The origin of a chat message in the request: the path of its content, and the indexes of its parts."""

    path: str
    parts: Sequence[int] = ()


@dataclass
class Conversation:
    """A conversation as chat messages; `ignored` names the items and parts that were dropped."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)

    def keep(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Keep only these messages; the others were removed from the request."""
        kept = {id(message) for message in messages}
        pairs = zip(self.messages, self.sources, strict=True)
        self.sources = [source for message, source in pairs if id(message) in kept]
        self.messages = [message for message in self.messages if id(message) in kept]

    def translate(self, error: RequestError) -> None:
        """Replace the paths of chat messages in a model's error by those of the request."""

        def path(match: re.Match[str]) -> str:
            message, part = int(match[1]), match[2]
            if message >= len(self.sources):
                return match[0]
            source = self.sources[message]
            if part is None:
                return source.path
            number = int(part)
            return f"{source.path}[{source.parts[number] if number < len(source.parts) else number}]"

        message = MESSAGE_PATH.sub(path, error.message)
        for name, client_name in CLIENT_TYPES.items():
            message = message.replace(f"type {name!r}", f"type {client_name!r}")
        error.args = (message, *error.args[1:])
        if error.param is not None and error.param.startswith("messages"):
            error.param = MESSAGE_PATH.sub(path, error.param).replace("messages", "input", 1)


def to_conversation(
    instructions: str | None,
    items: Sequence[Item],
    catalog: ToolCatalog | None = None,
    *,
    history: int = 0,
    modalities: Collection[str] | None = None,
) -> Conversation:
    """Convert normalized items, of which the first `history` are not in the request itself.

    `modalities` are those that the model accepts, if they are known: parts of others are omitted, except in a message
    at the end, where the model rejects them.
    """
    builder = ChatMessageBuilder(catalog or ToolCatalog(), modalities)
    if instructions:
        builder.add_system(instructions, Source("instructions"))
    for number, item in enumerate(items):
        path = f"input[{number - history}]" if number >= history else "previous_response_id"
        builder.add(item, path, is_last=number == len(items) - 1)
    return builder.build()


class ChatMessageBuilder:
    """Converts normalized items to chat messages.

    Consecutive reasoning, text and function calls of the assistant become one message. So do the instructions and the
    system and developer messages directly after them, because many chat templates accept only one system message.
    Their texts are joined once, in `build`.
    """

    def __init__(self, catalog: ToolCatalog, modalities: Collection[str] | None) -> None:
        self._catalog = catalog
        self._modalities = modalities
        self._conversation = Conversation()
        self._messages = self._conversation.messages
        # The assistant message that following items belong to.
        self._turn: dict[str, Any] | None = None
        self._system_texts: list[str] = []
        self._turn_texts: list[str] = []

    def add(self, item: Item, path: str, *, is_last: bool = False) -> None:
        """Add a normalized item; `path` is that of the item in the request."""
        catalog = self._catalog
        match item:
            case {"type": "message", "role": role, "content": content}:
                self._add_message(role, content, f"{path}.content", is_last)
            case {"type": "reasoning"}:
                self._add_reasoning(item, path)
            case {"type": "function_call", "name": name, "arguments": arguments}:
                self._add_call(item, catalog.flat_name(name, item.get("namespace"), "function"), arguments, path)
            case {"type": "custom_tool_call", "name": name, "input": text}:
                name = catalog.flat_name(name, item.get("namespace"), "custom")
                self._add_call(item, name, custom_arguments(text), path)
            case {"type": "function_call_output" | "custom_tool_call_output", "output": output}:
                self._add_result(item, output, f"{path}.output")
            case {"type": "tool_search_call", "execution": "client"}:
                self._add_call(item, TOOL_SEARCH, _json(item.get("arguments")), path)
            case {"type": "tool_search_output", "execution": "client"}:
                self._add_result(item, f"Found tools: {_names(item.get('tools'))}", path)
            case {"type": "additional_tools" | "tool_search_output"}:
                pass
            case {"type": "mcp_call", "name": str(name), "arguments": str(arguments)}:
                self._add_call(item, name, arguments, path)
                result = item.get("output") if item.get("error") is None else item["error"]
                if result is not None:
                    self._add_result(item, result if isinstance(result, str) else _json(result), path)
            case {"type": "local_shell_call" | "shell_call" as kind, "action": dict(action)}:
                self._add_call(item, kind.removesuffix("_call"), _json(action), path)
            case {"type": "apply_patch_call", "operation": dict(operation)}:
                self._add_call(item, "apply_patch", _json(operation), path)
            case {"type": "local_shell_call_output" | "shell_call_output" | "apply_patch_call_output"}:
                self._add_result(item, _with_status(item), path)
            case {"type": "compaction"}:
                self._add_compaction(item, path)
            case _:
                self._ignore(f"input.{item['type']}")

    def add_system(self, content: Any, source: Source) -> None:
        """Add instructions, or the content of a system or developer message."""
        texts = self._system_texts
        if isinstance(content, str) and len(self._messages) == (1 if texts else 0):
            texts.append(content)
            if len(texts) > 1:
                return
        self._append({"role": "system", "content": content}, source)

    def build(self) -> Conversation:
        """Return the conversation."""
        self._end_turn()
        if self._system_texts:
            self._messages[0]["content"] = "\n\n".join(self._system_texts)
        return self._conversation

    def _ignore(self, name: str) -> None:
        if name not in self._conversation.ignored:
            self._conversation.ignored.append(name)

    def _add_message(self, role: str, content: str | list[Item], path: str, is_last: bool) -> None:
        converted, source = self._content(content, path, may_omit=not (is_last and role == "user"))
        if role == "assistant":
            if converted != []:
                self._add_output(converted, source)
        elif role == "user":
            self._append({"role": "user", "content": converted}, source)
        else:
            self.add_system(converted, source)

    def _add_reasoning(self, item: Item, path: str) -> None:
        text = "".join([part["text"] for part in item["content"] or item["summary"]])
        if "encrypted_content" in item:
            decoded = opaque.decode(item["encrypted_content"])
            if isinstance(decoded, str):
                text = text or decoded
            else:
                self._ignore("input.encrypted_content")
        if text:
            turn = self._assistant(("reasoning_content", "content", "tool_calls"), Source(path))
            turn["reasoning_content"] = text

    def _add_call(self, item: Item, name: str, arguments: str, path: str) -> None:
        call = {"id": _call_id(item), "type": "function", "function": {"name": name, "arguments": arguments}}
        self._assistant((), Source(path)).setdefault("tool_calls", []).append(call)

    def _add_result(self, item: Item, output: str | list[Item], path: str) -> None:
        content, source = self._content(output, path, may_omit=True)
        self._append({"role": "tool", "tool_call_id": _call_id(item), "content": content}, source)

    def _add_compaction(self, item: Item, path: str) -> None:
        match opaque.decode(item.get("encrypted_content")):
            case {"summary": str(summary), "instructions": list(instructions)}:
                self._add_compacted(instructions, path)
                self._append({"role": "user", "content": SUMMARY + summary}, Source(path))
            case {"items": list(items)}:
                self._add_compacted(items, path)
            case _:
                self._ignore("input.compaction")

    def _add_compacted(self, items: list[Any], path: str) -> None:
        """Add items that a compaction has kept as they are."""
        try:
            kept = normalize_items([item for item in items if isinstance(item, dict)], {})
        except InvalidRequestError:
            self._ignore("input.compaction")
            return
        for item in kept:
            # Earlier compactions were expanded, so that this does not recur.
            if item["type"] != "compaction" or "summary" in (opaque.decode(item.get("encrypted_content")) or {}):
                self.add(item, path)

    def _add_output(self, content: Any, source: Source) -> None:
        turn = self._turn
        is_text = isinstance(content, str)
        if turn is not None and turn.get("tool_calls") and is_text and (self._turn_texts or not turn["content"]):
            # A chat message cannot represent text between two calls.
            self._turn_texts.append(content)
        else:
            self._assistant(("content", "tool_calls"), source)["content"] = content
            self._turn_texts = [content] if is_text else []

    def _assistant(self, unless: tuple[str, ...], source: Source) -> dict[str, Any]:
        """Return the assistant's current message, or a new one if it already has one of the fields `unless`."""
        if self._turn is None or any(self._turn.get(key) for key in unless):
            self._append({"role": "assistant", "content": None}, source)
            self._turn = self._messages[-1]
        return self._turn

    def _append(self, message: dict[str, Any], source: Source) -> None:
        self._end_turn()
        self._messages.append(message)
        self._conversation.sources.append(source)

    def _end_turn(self) -> None:
        if self._turn is not None and self._turn_texts:
            self._turn["content"] = "".join(self._turn_texts)
        self._turn = None
        self._turn_texts = []

    def _content(self, content: str | list[Item], path: str, *, may_omit: bool) -> tuple[Any, Source]:
        if isinstance(content, str):
            return content, Source(path)
        parts, numbers = [], []
        for number, part in enumerate(content):
            converted = chat_part(part, f"{path}[{number}]")
            if converted is None and part["type"] == "input_image" and not may_omit:
                raise InvalidRequestError(
                    f"{path}[{number}].file_id is not supported by this server; send the image as a data URL in "
                    "image_url.",
                    param="input",
                )
            if converted is None:
                self._ignore(_part_name(path, part))
                continue
            if may_omit and not self._accepts(converted["type"]):
                self._ignore(_part_name(path, part))
                converted = {"type": "text", "text": OMITTED[converted["type"]]}
            parts.append(converted)
            numbers.append(number)
        source = Source(path, numbers)
        if len(parts) == 1 and parts[0]["type"] == "text":
            return parts[0]["text"], source
        # Content that was dropped entirely is empty, not missing.
        return ("" if content and not parts else parts), source

    def _accepts(self, kind: str) -> bool:
        if kind == "file":
            return False
        return kind not in MODALITIES or self._modalities is None or MODALITIES[kind] in self._modalities


def _part_name(path: str, part: Item) -> str:
    """The name of a dropped part in the header of ignored fields, such as `input.content.input_image`."""
    return f"input.{path.rpartition('.')[2]}.{part['type']}"


def _with_status(item: Mapping[str, Any]) -> str:
    """Return the output of a shell or patch call, with the status unless it is `completed`."""
    output, status = item.get("output") or "", item.get("status")
    text = output if isinstance(output, str) else _json(output)
    return text if text and status in (None, "completed") else f"[{status}] {text}".rstrip()


def _call_id(item: Mapping[str, Any]) -> str:
    # The output of a local shell call has the id of its call in `id`.
    id = item.get("call_id")
    return id if isinstance(id, str) and id else str(item["id"])


def _json(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)


def _names(tools: Any) -> str:
    names = [str(tool.get("name", tool.get("type"))) for tool in _dicts(tools)]
    return ", ".join(names) or "none"


def _dicts(values: Any) -> Iterable[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
