"""Renders conversations with the model's chat template, in the dialect that a probe of the template finds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host.requests import ChatRequest, Json

from mlx_host_lm.messages import Content, text_content
from mlx_host_lm.mlx_lm_api import RESERVED_VARIABLES, TEMPLATE_ERRORS, TemplateSyntaxError, Tokenizer
from mlx_host_lm.probe import probe

log = logging.getLogger(__name__)


def read_template(file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"the chat template {str(file)!r} cannot be read: {error}") from error


@dataclass(frozen=True)
class Prompt:
    """A rendered conversation: its tokens, and what the template appended after the last message."""

    tokens: list[int]
    tail: str
    tail_tokens: int


class Prompts:
    """The chat template of one model; `template` replaces the model's own, `content` reads what messages hold."""

    def __init__(self, tokenizer: Tokenizer, template: str | None, content: Content = text_content) -> None:
        if template is None and not tokenizer.has_template:
            raise LoadError("the model has no chat template; give one with --chat-template-file")
        self._tokenizer = tokenizer
        self._template = template
        self._content = content
        self.source = tokenizer.template_source if template is None else template
        self.dialect = probe(self._try)

    def render(self, request: ChatRequest) -> Prompt:
        text, tail = self.write(request)
        return self.divide(self._tokenizer.encode(text), tail)

    def write(self, request: ChatRequest) -> tuple[str, str]:
        """A conversation's text, and what of it the template appended after the last message."""
        messages = self.dialect.translate(request.messages, self._content)
        text = self._text(request, messages, generation_prompt=True)
        return text, self._tail(text, messages, request.tools, request.template_kwargs)

    def divide(self, tokens: list[int], tail: str) -> Prompt:
        """A prompt of these tokens, the last of which are the tail's if they can be told apart."""
        if not tokens:
            raise InvalidRequestError("the messages render to an empty prompt; send some text", param="messages")
        tail_tokens = self._tokenizer.encode(tail) if tail else []
        splits = bool(tail_tokens) and tokens[-len(tail_tokens) :] == tail_tokens
        return Prompt(tokens, tail, len(tail_tokens) if splits else 0)

    def text(self, request: ChatRequest, *, generation_prompt: bool) -> str:
        """A conversation's text, with or without what the template appends for the answer to begin."""
        messages = self.dialect.translate(request.messages, self._content)
        return self._text(request, messages, generation_prompt=generation_prompt)

    def _text(self, request: ChatRequest, messages: Sequence[Json], *, generation_prompt: bool) -> str:
        for name in request.template_kwargs:
            if name in RESERVED_VARIABLES:
                raise InvalidRequestError(
                    f"chat_template_kwargs may not set {name!r}; it is decided by the rest of the request",
                    param="chat_template_kwargs",
                )
        try:
            return self._render(
                messages, request.tools, request.template_kwargs, add_generation_prompt=generation_prompt
            )
        except TEMPLATE_ERRORS as error:
            raise InvalidRequestError(
                f"the model's chat template refuses these messages: {str(error) or type(error).__name__}",
                param="messages",
            ) from error

    def _render(
        self, messages: Sequence[Json], tools: Sequence[Json], variables: Json, *, add_generation_prompt: bool
    ) -> str:
        return self._tokenizer.render(
            messages,
            tools,
            add_generation_prompt=add_generation_prompt,
            template=self._template,
            variables=variables,
        )

    def _tail(self, text: str, messages: Sequence[Json], tools: Sequence[Json], variables: Json) -> str:
        try:
            closed = self._render(messages, tools, variables, add_generation_prompt=False)
        except TEMPLATE_ERRORS as error:
            log.debug("the chat template does not render without a generation prompt: %s", error)
        else:
            if closed != text and text.startswith(closed):
                return text[len(closed) :]
        # Some templates always append the answer's header, or change earlier text when it is not asked for.
        last = str(messages[-1]["content"]).strip()
        return text.rpartition(last)[2] if last and last in text else ""

    def _try(self, messages: Sequence[Json], tools: Sequence[Json]) -> str | None:
        read = [{**message, "content": self._content(message["content"], "")} for message in messages]
        try:
            return self._render(read, tools, {}, add_generation_prompt=True)
        except TemplateSyntaxError as error:
            raise LoadError(
                f"the chat template is not valid Jinja: line {error.lineno}: {error.message}; "
                "mend it or give another one with --chat-template-file"
            ) from error
        except TEMPLATE_ERRORS as error:
            log.debug("the chat template refuses a probe: %s", error)
            return None
