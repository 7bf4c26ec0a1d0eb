"""Names the blocks of the client's own messages in errors about the converted messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from mlx_host.api import ChatEvent, Reply
from mlx_host.api.replies import DerivedReply
from mlx_host.errors import ContextLengthExceededError, RequestError

from mlx_host_messages.content import Conversation

CONVERTED = re.compile(r"\bmessages\[(\d+)\](?:\.content\[(\d+)\])?")
# OpenAI's types of content parts, and Anthropic's types of blocks.
TYPES = {"image_url": "image"}
QUOTED_TYPE = re.compile("'({})'".format("|".join(TYPES)))


def with_original_paths(error: RequestError, conversation: Conversation) -> RequestError:
    """Return the error with the paths and types of the client's messages."""
    if not isinstance(error, ContextLengthExceededError):
        text = CONVERTED.sub(lambda match: _original(match, conversation), error.message)
        error.args = (QUOTED_TYPE.sub(lambda match: f"'{TYPES[match[1]]}'", text), *error.args[1:])
    return error


def _original(match: re.Match[str], conversation: Conversation) -> str:
    index = int(match[1])
    if index >= len(conversation.paths):
        return match[0]
    path, parts = conversation.paths[index]
    if match[2] is None:
        return path
    return parts[int(match[2])] if int(match[2]) < len(parts) else f"{path}.content.{match[2]}"


class OriginalPathsReply(DerivedReply[ChatEvent]):
    """A reply whose errors name the client's messages."""

    def __init__(self, reply: Reply[ChatEvent], conversation: Conversation) -> None:
        self._reply = reply
        self._conversation = conversation

    @property
    def _source(self) -> Reply[ChatEvent]:
        return self._reply

    async def __aenter__(self) -> Self:
        try:
            await self._reply.__aenter__()
        except RequestError as error:
            raise with_original_paths(error, self._conversation) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._reply.__aexit__(kind, error, traceback)

    async def __anext__(self) -> Sequence[ChatEvent]:
        try:
            return await self._reply.__anext__()
        except RequestError as error:
            raise with_original_paths(error, self._conversation) from None
