"""Renders conversations with the model's chat template, in the message format that the template expects."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError, TemplateSyntaxError
from mlx_host.errors import InvalidRequestError, LoadError, describe_error
from mlx_host.requests import ChatRequest, Json

from mlx_host_text.conversation import Message, join_content, typed_text
from mlx_host_text.messages import ContentConverter, text_content
from mlx_host_text.template_probe import detect_conversation_format, detect_template_format
from mlx_host_text.tokenizer import Tokenizer
from mlx_host_text.tool_notation import ToolNotation

log = logging.getLogger(__name__)

# Marks the end of the last message, to cut the prompt there; templates may trim the text around it.
END_MARK = "mlxhost7e3end"

TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)
"""The exceptions that a chat template, in Jinja or in Python, raises for messages that it does not support."""

RESERVED_VARIABLES = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "sanitize_control_tokens",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""Template variables set by other request fields, and parameters of transformers' `apply_chat_template`."""


def read_template(file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"Cannot read the chat template {str(file)!r}: {describe_error(error)}.") from error


class RenderedChat(NamedTuple):
    """A rendered conversation: its text, and the last part of the text, in which the output begins.

    This part is what the template appended after the last message, or the unfinished last message.
    """

    text: str
    generation_prompt: str


@dataclass(frozen=True)
class AdaptedChat:
    """A conversation as the template receives it; `notes` describe how it differs from the request."""

    messages: Sequence[Message]
    tools: Sequence[Json]
    notes: Sequence[str] = ()


def reads_only_enable_thinking(source: str) -> bool:
    """Whether a template uses the variable `enable_thinking`, but not `reasoning_effort`."""
    return re.search(r"\benable_thinking\b", source) is not None and "reasoning_effort" not in source


class ChatTemplate:
    """The chat template of one model.

    `template` replaces the model's own template. `content` converts the content of messages. Conversations that the
    template does not render are adapted. The reasoning effort "none" disables thinking in templates that have a
    variable for that only.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None, content: ContentConverter = text_content) -> None:
        if template is None and not tokenizer.has_template:
            raise LoadError("The model has no chat template; give one with --chat-template-file.")
        self._tokenizer = tokenizer
        self._template = template
        self._content = content
        self.source = tokenizer.template_source if template is None else template
        self._disables_thinking = reads_only_enable_thinking(self.source or "")
        self.format = detect_template_format(self._render_probe)
        self.conversations = detect_conversation_format(self._render_probe, self.format)

    def adapt(self, request: ChatRequest) -> AdaptedChat:
        """Convert messages to the format of the template, without what it does not render."""
        converted = self.format.convert(request.messages, self._content)
        notes: dict[str, None] = {}
        notation = ToolNotation(request.call_notation)
        adapted = self.conversations.adapt(converted, request.tools, notation, notes.setdefault)
        messages = [{**message, "content": self._text(message["content"])} for message in adapted]
        return AdaptedChat(messages, request.tools if self.conversations.tools else (), list(notes))

    def _text(self, content: Any) -> Any:
        """Convert text that was added to a conversation; some templates accept lists of parts only."""
        return self._content(content, "messages") if isinstance(content, str) else content

    def render(self, request: ChatRequest) -> RenderedChat:
        chat = self.adapt(request)
        if request.continue_final_message:
            return self._render_open(request, chat)
        text = self._render(request, chat, add_generation_prompt=request.add_generation_prompt)
        prompt = self._generation_prompt(text, request, chat) if request.add_generation_prompt else ""
        return RenderedChat(text, prompt)

    def render_text(self, request: ChatRequest) -> str:
        chat = self.adapt(request)
        if request.continue_final_message:
            return self._render_open(request, chat).text
        return self._render(request, chat, add_generation_prompt=request.add_generation_prompt)

    def _render_open(self, request: ChatRequest, chat: AdaptedChat) -> RenderedChat:
        """Render a conversation up to the end of the last message's text."""
        *before, last = chat.messages
        if last["role"] != "assistant" or last.get("tool_calls"):
            raise InvalidRequestError(
                "continue_final_message requires that the last message is from the assistant and has no tool_calls.",
                param="continue_final_message",
            )
        mark = END_MARK if isinstance(last["content"], str) else [typed_text(END_MARK)]
        marked = {**last, "content": self._text(join_content(last["content"], mark, separator=""))}
        closed = self._render(request, replace(chat, messages=[*before, marked]), add_generation_prompt=False)
        text, found, _ = closed.rpartition(END_MARK)
        if not found:
            raise InvalidRequestError(
                "The model's chat template does not render the last message, so it cannot be continued.",
                param="continue_final_message",
            )
        start = ""
        if before:
            try:
                start = self._apply(before, chat.tools, self._variables(request), add_generation_prompt=False)
            except TEMPLATE_ERRORS as error:
                log.debug("the chat template does not render without the last message: %s", error)
        return RenderedChat(text, text[len(start) :] if text.startswith(start) else "")

    def _render(self, request: ChatRequest, chat: AdaptedChat, *, add_generation_prompt: bool) -> str:
        for name in request.template_kwargs:
            if name in RESERVED_VARIABLES:
                raise InvalidRequestError(
                    f"chat_template_kwargs may not set {name!r}; it is set by other fields of the request.",
                    param="chat_template_kwargs",
                )
        try:
            return self._apply(
                chat.messages, chat.tools, self._variables(request), add_generation_prompt=add_generation_prompt
            )
        except TEMPLATE_ERRORS as error:
            raise InvalidRequestError(
                f"The model's chat template rejects these messages: {str(error) or type(error).__name__}",
                param="messages",
            ) from error

    def _variables(self, request: ChatRequest) -> Json:
        variables = request.template_kwargs
        if not self._disables_thinking or variables.get("reasoning_effort") != "none":
            return variables
        return {"enable_thinking": False, **variables}

    def _apply(
        self, messages: Sequence[Json], tools: Sequence[Json], variables: Json, *, add_generation_prompt: bool
    ) -> str:
        return self._tokenizer.render(
            messages,
            tools,
            add_generation_prompt=add_generation_prompt,
            template=self._template,
            variables=variables,
        )

    def _generation_prompt(self, text: str, request: ChatRequest, chat: AdaptedChat) -> str:
        try:
            closed = self._apply(chat.messages, chat.tools, self._variables(request), add_generation_prompt=False)
        except TEMPLATE_ERRORS as error:
            log.debug("the chat template does not render without a generation prompt: %s", error)
        else:
            if closed != text and text.startswith(closed):
                return text[len(closed) :]
        # Some templates always append the generation prompt, or change earlier text without it.
        last = str(chat.messages[-1]["content"]).strip()
        return text.rpartition(last)[2] if last and last in text else ""

    def _render_probe(self, messages: Sequence[Json], tools: Sequence[Json]) -> str | None:
        converted = [{**message, "content": self._content(message["content"], "")} for message in messages]
        try:
            return self._apply(converted, tools, {}, add_generation_prompt=True)
        except TemplateSyntaxError as error:
            raise LoadError(
                f"The chat template is not valid Jinja: line {error.lineno}: {error.message}; "
                "correct it or give another one with --chat-template-file."
            ) from error
        except TEMPLATE_ERRORS as error:
            log.debug("the chat template raises for a probe: %s", error)
            return None
