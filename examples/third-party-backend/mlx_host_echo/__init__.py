"""An mlx-host backend that repeats the user's last message, word by word."""

import re
from collections.abc import Iterator

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model, Options, message_text
from mlx_host.errors import UnsupportedRequestError
from mlx_host.events import Event, Finished, Started, TextDelta
from mlx_host.requests import ChatRequest
from pydantic import Field


class EchoOptions(Options):
    uppercase: bool = Field(False, description="Return the message in upper case.")


class EchoModel(Model):
    concurrency = 16

    def __init__(self, options: EchoOptions) -> None:
        self.uppercase = options.uppercase

    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        if request.n > 1 or request.top_logprobs is not None:
            raise UnsupportedRequestError("echo supports one choice (n = 1) without logprobs.")
        prompt = next((message_text(m) for m in reversed(request.messages) if m["role"] == "user"), "")
        words = re.findall(r"\s*\S+", prompt.upper() if self.uppercase else prompt)
        output = words[: request.max_tokens]
        yield Started(prompt_tokens=len(words))
        yield from map(TextDelta, output)
        yield Finished(reason="length" if len(output) < len(words) else "stop", completion_tokens=len(output))


def load(context: LoadContext[EchoOptions]) -> EchoModel:
    return EchoModel(context.options)


@hookimpl
def register_backends() -> list[Backend[EchoOptions]]:
    return [Backend("echo", load, EchoOptions, needs_model=False, summary="repeats the user's message")]
