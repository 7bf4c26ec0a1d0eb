"""Renders conversations with the model's chat template, in the message format that the template expects."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import TemplateError, TemplateSyntaxError
from mlx_host.errors import InvalidRequestError, LoadError, describe_error
from mlx_host.requests import ChatRequest, Json

from mlx_host_text.messages import ContentConverter, text_content
from mlx_host_text.template_probe import detect_template_format
from mlx_host_text.tokenizer import Tokenizer

log = logging.getLogger(__name__)

TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""The exceptions that a chat template raises for messages that it does not support."""

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
        raise LoadError(f"cannot read the chat template {str(file)!r}: {describe_error(error)}") from error


class RenderedChat(NamedTuple):
    """A conversation's text, and the part of it that the template appended after the last message."""

    text: str
    generation_prompt: str


def reads_only_enable_thinking(source: str) -> bool:
    """Whether a template has the variable `enable_thinking`, and none for the effort."""
    return re.search(r"\benable_thinking\b", source) is not None and "reasoning_effort" not in source


class ChatTemplate:
    """The chat template of one model.

    `template` replaces the model's own template. `content` converts the content of messages. The reasoning effort
    "none" disables thinking in templates that have a variable for that only.
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None, content: ContentConverter = text_content) -> None:
        if template is None and not tokenizer.has_template:
            raise LoadError("the model has no chat template; give one with --chat-template-file")
        self._tokenizer = tokenizer
        self._template = template
        self._content = content
        self.source = tokenizer.template_source if template is None else template
        self._disables_thinking = reads_only_enable_thinking(self.source or "")
        self.format = detect_template_format(self._render_probe)

    def render(self, request: ChatRequest) -> RenderedChat:
        messages = self.format.convert(request.messages, self._content)
        text = self._render(request, messages, add_generation_prompt=True)
        return RenderedChat(text, self._generation_prompt(text, request, messages))

    def render_text(self, request: ChatRequest, *, add_generation_prompt: bool) -> str:
        messages = self.format.convert(request.messages, self._content)
        return self._render(request, messages, add_generation_prompt=add_generation_prompt)

    def _render(self, request: ChatRequest, messages: Sequence[Json], *, add_generation_prompt: bool) -> str:
        for name in request.template_kwargs:
            if name in RESERVED_VARIABLES:
                raise InvalidRequestError(
                    f"chat_template_kwargs may not set {name!r}; it is set by other fields of the request",
                    param="chat_template_kwargs",
                )
        try:
            return self._apply(
                messages, request.tools, self._variables(request), add_generation_prompt=add_generation_prompt
            )
        except TEMPLATE_ERRORS as error:
            raise InvalidRequestError(
                f"the model's chat template rejects these messages: {str(error) or type(error).__name__}",
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

    def _generation_prompt(self, text: str, request: ChatRequest, messages: Sequence[Json]) -> str:
        try:
            closed = self._apply(messages, request.tools, self._variables(request), add_generation_prompt=False)
        except TEMPLATE_ERRORS as error:
            log.debug("the chat template does not render without a generation prompt: %s", error)
        else:
            if closed != text and text.startswith(closed):
                return text[len(closed) :]
        # Some templates always append the generation prompt, or change earlier text without it.
        last = str(messages[-1]["content"]).strip()
        return text.rpartition(last)[2] if last and last in text else ""

    def _render_probe(self, messages: Sequence[Json], tools: Sequence[Json]) -> str | None:
        converted = [{**message, "content": self._content(message["content"], "")} for message in messages]
        try:
            return self._apply(converted, tools, {}, add_generation_prompt=True)
        except TemplateSyntaxError as error:
            raise LoadError(
                f"the chat template is not valid Jinja: line {error.lineno}: {error.message}; "
                "correct it or give another one with --chat-template-file"
            ) from error
        except TEMPLATE_ERRORS as error:
            log.debug("the chat template raises for a probe: %s", error)
            return None
