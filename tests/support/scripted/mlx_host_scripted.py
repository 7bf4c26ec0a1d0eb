"""A backend whose answers are written in the last message, or the prompt: a JSON list of steps, one for each turn.

["say", text]         a piece of the answer, one token (["say", text, choice] for a choice other than 0)
["before", step]      first of all steps: do it before the request is accepted
["prefilled", d, t]   progress of the prefill
["until", path]       give way until the file exists
["block", path]       do not even give way until the file exists
["touch", path]       make the file, so that a test knows the place was reached
["note", path, line]  add a line to the file
["refuse", message]   raise InvalidRequestError
["fail", message]     raise an unexpected exception
["die"]               kill the model's own process
["start", path]       start a process that does nothing, and write its id into the file
["hang"]              never come back
["grip"]              never come back, nor let any other thread run
["forever", text]     say text again and again
["end", reason]       finish for this reason; without it the answer finishes with "stop"
["bare", value]       say something that is no event
["improbable", p]     a piece whose log-probability is p, such as "-inf"
["surrogate"]         a piece with half a surrogate pair, which UTF-8 cannot hold
["unreadable"]        say something that pickles, but cannot be unpickled

Asked for log-probabilities, each piece has -0.5, and its alternatives, "alt0", "alt1" …, one less each; so have the
two halves of a prompt that is echoed. A prompt of token ids is said as it is. A suffix must not be "refuse".

A text's tokens are its characters. A conversation has as many tokens as steps, numbered from 0.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model, Options
from mlx_host.errors import InvalidRequestError, LoadError
from mlx_host.events import (
    ChoiceFinished,
    Event,
    Finished,
    Logprobs,
    Progress,
    PromptEcho,
    Started,
    StopReason,
    TextDelta,
    Tokenized,
    TokenLogprob,
)
from mlx_host.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    GenerationRequest,
    Request,
    TokenizeRequest,
)
from pydantic import Field


class ScriptedOptions(Options):
    slots: int = Field(4, ge=1, description="How many requests run at once.")
    generation_prompt: str = Field("", description="What the pretended chat template ends with.")
    fail_load: bool = Field(False, description="Fail to load.")
    load_until: Path | None = Field(None, description="Load until this file exists.")
    die_once: Path | None = Field(None, description="Die while loading, unless this file exists; make it first.")


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)


class Unreadable(Event):
    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("no number",))


def _logprobs(request: GenerationRequest, text: str) -> tuple[Logprobs, ...]:
    if request.top_logprobs is None:
        return ()
    top = tuple(TokenLogprob(f"alt{n}", -1.5 - n, f"alt{n}".encode()) for n in range(request.top_logprobs))
    return (Logprobs(TokenLogprob(text, -0.5, text.encode()), top),)


SERVES = (ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest)


class ScriptedModel(Model):
    supported_requests = SERVES

    def __init__(self, options: ScriptedOptions) -> None:
        self.concurrency = options.slots
        self._prompt_tail = options.generation_prompt

    def generate(self, request: Request) -> Iterator[Event | None]:
        match request:
            case GenerationRequest():
                return self._answer(request)
            case TokenizeRequest():
                return _tokenize(request)
            case DetokenizeRequest():
                if any(token > sys.maxunicode for token in request.tokens):
                    raise InvalidRequestError("this model's tokens are Unicode's characters", param="tokens")
                return iter(
                    (Started(prompt_tokens=0), TextDelta("".join(map(chr, request.tokens)), token_count=0), Finished())
                )
        raise TypeError(request)

    def _answer(self, request: GenerationRequest) -> Iterator[Event | None]:
        steps = _steps(request)
        if steps and steps[0][0] == "refuse":
            raise InvalidRequestError(steps[0][1], param="messages")
        if steps and steps[0][0] == "before":
            yield from _do(steps.pop(0)[1])
        yield Started(prompt_tokens=len(steps), generation_prompt=self._prompt_tail)
        if isinstance(request, CompletionRequest) and request.echo:
            yield _echoed(request)
        tokens = 0
        reason: StopReason = "stop"
        for step in steps:
            match step:
                case ["say", text, *choice]:
                    tokens += 1
                    yield TextDelta(text, choice=choice[0] if choice else 0, logprobs=_logprobs(request, text))
                case ["end", reason, choice]:
                    yield ChoiceFinished(reason, choice)
                case ["end", reason]:
                    break
                case ["forever", text]:
                    while request.max_tokens is None or tokens < request.max_tokens:
                        tokens += 1
                        yield TextDelta(text, logprobs=_logprobs(request, text))
                    reason = "length"
                case _:
                    yield from _do(step)
        yield Finished(reason=reason, completion_tokens=tokens)


def _do(step: list[Any]) -> Iterator[Event | None]:
    match step:
        case ["prefilled", done, total]:
            yield Progress("prefill", done, total)
        case ["until", path]:
            while not Path(path).exists():
                time.sleep(0.001)  # Else one test would take a core from the others.
                yield None
        case ["note", path, line]:
            with Path(path).open("a") as file:
                file.write(f"{line}\n")
            yield None
        case ["block", path]:
            _wait_for(Path(path))
            yield None
        case ["touch", path]:
            Path(path).touch()
            yield None
        case ["fail", message]:
            raise ZeroDivisionError(message)
        case ["start", path]:
            idle = subprocess.Popen([sys.executable, "-Sc", "import signal; signal.pause()"])
            Path(path).write_text(f"{idle.pid}\n")
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["bare", value]:
            yield value
        case ["unreadable"]:
            yield Unreadable()
        case ["improbable", logprob]:
            yield TextDelta("x", logprobs=(Logprobs(TokenLogprob("x", float(logprob), b"x")),))
        case ["surrogate"]:
            yield TextDelta("a\ud800")
        case ["hang"]:
            threading.Event().wait()
        case ["grip"]:
            # Takes longer than the universe will, in C.
            re.match("(a|aa)+$", "a" * 200 + "b")
        case _:
            raise InvalidRequestError(f"no step {step!r}", param="messages")


def _echoed(request: CompletionRequest) -> PromptEcho:
    text = request.prompt if isinstance(request.prompt, str) else f"{request.prompt}"
    if request.top_logprobs is None:
        return PromptEcho(text)
    middle = len(text) // 2
    first, second = text[:middle], text[middle:]
    start = Logprobs(TokenLogprob(first, 0.0, first.encode()))
    return PromptEcho(text, (start, *_logprobs(request, second)))


def _tokenize(request: TokenizeRequest) -> Iterator[Event | None]:
    yield Started(prompt_tokens=0)
    if isinstance(request.prompt, ChatRequest):
        tokens = range(len(_steps(request.prompt)) + (0 if request.add_generation_prompt else -1))
        yield Tokenized(tuple(tokens), tuple(map(str, tokens)))
    else:
        text = f"^{request.prompt}" if request.special_tokens else request.prompt
        yield Tokenized(tuple(map(ord, text)), tuple(text))
    yield Finished()


def _steps(request: GenerationRequest) -> list[list[Any]]:
    if isinstance(request, CompletionRequest):
        if request.suffix == "refuse":
            raise InvalidRequestError("no suffix", param="suffix")
        script: Any = request.prompt if isinstance(request.prompt, str) else json.dumps([["say", f"{request.prompt}"]])
    else:
        assert isinstance(request, ChatRequest)
        script = request.messages[-1].get("content")
    try:
        steps = json.loads(script)
    except (ValueError, TypeError, KeyError):
        steps = None
    if isinstance(steps, list) and all(isinstance(step, list) and step for step in steps):
        return steps
    return [["say", "What is the script?"]]


def load(load: LoadContext[ScriptedOptions]) -> ScriptedModel:
    if load.options.fail_load:
        raise LoadError("the script says not to load")
    load.progress("load", 0, 1)
    if load.options.load_until is not None:
        _wait_for(load.options.load_until)
    gate = load.options.die_once
    if gate is not None and not gate.exists():
        gate.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    load.progress("load", 1, 1)
    return ScriptedModel(load.options)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [Backend("scripted", load, ScriptedOptions, supported_requests=SERVES, needs_model=False)]
