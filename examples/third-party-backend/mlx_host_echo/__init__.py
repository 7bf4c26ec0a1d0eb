"""An mlx-host backend that says back, word by word, what it is told."""

import re
from collections.abc import Iterator

from mlx_host import hookimpl
from mlx_host.backend import Backend, Model, Options
from mlx_host.errors import UnsupportedRequest
from mlx_host.events import Event, Finished, Started, Text
from mlx_host.requests import ChatRequest
from pydantic import Field


class EchoOptions(Options):
    uppercase: bool = Field(False, description="Shout it back.")


class EchoModel(Model):
    concurrency = 16

    def __init__(self, options: EchoOptions) -> None:
        self.uppercase = options.uppercase

    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        text = next((m.get("content") for m in reversed(request.messages) if m["role"] == "user"), None)
        if not isinstance(text, str) or request.n > 1 or request.top_logprobs is not None:
            raise UnsupportedRequest("echo gives one answer, without logprobs, to a user's message that is plain text.")
        words = re.findall(r"\s*\S+", text.upper() if self.uppercase else text)
        yield Started(prompt_tokens=len(words))
        said = words[: request.max_tokens]
        yield from map(Text, said)
        yield Finished(reason="length" if len(said) < len(words) else "stop", completion_tokens=len(said))


@hookimpl
def register_backends() -> list[Backend[EchoOptions]]:
    summary = "says back what it is told"
    return [Backend("echo", lambda load: EchoModel(load.options), EchoOptions, needs_model=False, summary=summary)]
