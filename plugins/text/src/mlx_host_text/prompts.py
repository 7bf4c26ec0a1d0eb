"""The prompts to which requests are converted before they join the batch, and the interface of their sources."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlx_host.errors import InvalidRequestError
from mlx_host.requests import ChatRequest, CompletionRequest, TokenizeRequest

from mlx_host_text.background import BackgroundThreads
from mlx_host_text.chat_template import AdaptedChat, ChatTemplate, RenderedChat
from mlx_host_text.completions import CompletionPrompts
from mlx_host_text.limits import TextLimits
from mlx_host_text.tokenizer import Tokenizer


class PromptInputs(Protocol):
    """The library's inputs for a prompt that is more than its tokens, such as image embeddings.

    They can follow the first `start` tokens from the prefix cache: all cached tokens, or 0 if the tokens after them
    attend to each other in both directions and have to be prefilled together with all others.
    """

    @property
    def start(self) -> int: ...


@dataclass(frozen=True)
class Prompt:
    """A prompt, ready to join the batch.

    `key` are the tokens under which the prefix cache stores it, equal in length to `tokens`, with those of images and
    audio replaced by numbers that identify the content; None disables the cache for this prompt. `restore_points` are
    the lengths at which later prompts are likely to branch off. `inputs`, called with the number of cached tokens,
    computes the library's inputs and yields while it waits. `generation_prompt` is the text that the chat template
    appended after the last message.
    """

    tokens: Sequence[int]
    key: Sequence[int] | None
    restore_points: Sequence[int] = ()
    inputs: Callable[[int], Generator[None, None, PromptInputs]] | None = None
    generation_prompt: str = ""


class PromptSource(Protocol):
    """Turns requests into prompts; the generators yield None while they wait.

    `chat_template` is the template's Jinja source, if there is one.
    """

    @property
    def chat_template(self) -> str | None: ...

    def chat(self, request: ChatRequest) -> Generator[None, None, Prompt]: ...

    def explain(self, request: ChatRequest) -> Generator[None, None, tuple[AdaptedChat, RenderedChat]]:
        """A conversation as the chat template receives it, and its text, in which images and audio are placeholders."""

    def completion(self, request: CompletionRequest) -> Generator[None, None, Prompt]: ...

    def tokens(self, request: TokenizeRequest) -> Generator[None, None, list[int]]:
        """The token ids of a text or a conversation, without any length limit."""

    def close(self) -> None:
        """Release resources; called when the model is closed."""


class TextPrompts:
    """The PromptSource of models that take text only: renders and tokenizes on separate threads.

    Prompts that are certainly too long are rejected before they are tokenized, which takes two seconds per megabyte.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, vocabulary_size: int, limits: TextLimits) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._limits = limits
        self._completions = CompletionPrompts(tokenizer, vocabulary_size, limits)
        self._threads = BackgroundThreads("prompts")

    @property
    def chat_template(self) -> str | None:
        return self._template.source

    def chat(self, request: ChatRequest) -> Generator[None, None, Prompt]:
        return (yield from self._threads.run(self._chat, request))

    def explain(self, request: ChatRequest) -> Generator[None, None, tuple[AdaptedChat, RenderedChat]]:
        return (yield from self._threads.run(self._explain, request))

    def _explain(self, request: ChatRequest) -> tuple[AdaptedChat, RenderedChat]:
        return self._template.adapt(request), self._template.render(request)

    def completion(self, request: CompletionRequest) -> Generator[None, None, Prompt]:
        tokens = yield from self._threads.run(self._completions.tokens, request)
        return Prompt(tokens, key=tokens)

    def tokens(self, request: TokenizeRequest) -> Generator[None, None, list[int]]:
        return (yield from self._threads.run(self._tokens, request))

    def render(self, request: ChatRequest) -> Generator[None, None, RenderedChat]:
        """Render a conversation that may have more tokens than its text, because of images or audio."""
        return (yield from self._threads.run(self._render, request))

    def close(self) -> None:
        self._threads.close()

    def _render(self, request: ChatRequest) -> RenderedChat:
        rendered = self._template.render(request)
        self._limits.check_length(request, self._tokenizer.min_tokens(rendered.text), at_least=True)
        return rendered

    def _chat(self, request: ChatRequest) -> Prompt:
        text, generation_prompt = self._render(request)
        tokens = self._tokenizer.encode(text)
        return Prompt(
            tokens,
            key=tokens,
            restore_points=restore_points(self._tokenizer, tokens, generation_prompt),
            generation_prompt=generation_prompt,
        )

    def _tokens(self, request: TokenizeRequest) -> list[int]:
        if isinstance(request.prompt, ChatRequest):
            text = self._template.render_text(request.prompt)
            return self._tokenizer.encode(text)
        return self._tokenizer.encode_start(request.prompt, special_tokens=request.special_tokens)


def restore_points(tokenizer: Tokenizer, tokens: Sequence[int], generation_prompt: str) -> tuple[int, ...]:
    """The end of the last message, where the next turn's prompt branches off; empty if it is unknown."""
    if not tokens:
        raise InvalidRequestError("The messages render to an empty prompt; send some text.", param="messages")
    tail = tokenizer.encode(generation_prompt) if generation_prompt else []
    found = bool(tail) and list(tokens[-len(tail) :]) == tail
    return (len(tokens) - len(tail),) if found else ()
