"""A backend whose output is scripted: the last message, or the prompt, is a JSON list of steps.

If the request continues the last message, the message before it is the script.

Each step takes one iteration of `generate`.

["text", text]               yield a TextDelta of one token for choice 0
["text", text, choice]       the same for another choice
["before_start", step]       only as the first step: do `step` before Started is yielded
["progress", done, total]    yield progress of the prefill
["until", path]              yield None until the file exists
["block", path]              block, without yielding, until the file exists
["touch_file", path]         create the file, which lets a test wait for this step
["append_line", path, line]  append a line to the file
["reject", message]          only as the first step: raise InvalidRequestError
["fail", message]            raise an unexpected exception
["kill"]                     kill the model's process
["spawn", path]              start an idle child process and write its process ID to the file
["hang"]                     block for ever, with the GIL released
["hold_gil"]                 block for ever, with the GIL held
["repeat", text]             yield TextDelta(text) until max_tokens
["finish", reason]           finish with this reason; without this step the reason is "stop"
["finish", reason, choice]   finish one choice
["yield_value", value]       yield a value that is not an Event
["logprob", p]               yield a TextDelta with the log probability p, such as "-inf"
["lone_surrogate"]           yield text with an unpaired surrogate, which UTF-8 cannot encode
["request", field]           yield a field of the request as JSON text
["unpicklable"]              yield an Event that can be pickled but not unpickled

If log probabilities are requested, each TextDelta has -0.5, and its alternatives "alt0", "alt1" … have -1.5, -2.5 ….
The two halves of an echoed prompt have them too. A prompt of token IDs is returned as text. The suffix "reject" is
rejected.

The tokens of a text are its characters. A conversation has one token for each step, numbered from 0.
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
    slots: int = Field(4, ge=1, description="Maximum number of concurrent requests.")
    generation_prompt: str = Field("", description="Generation prompt to report in Started.")
    fail_load: bool = Field(False, description="Raise LoadError while loading.")
    load_until: Path | None = Field(None, description="Do not finish loading before this file exists.")
    die_once: Path | None = Field(None, description="If this file does not exist, create it and kill the process.")


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)


class UnpicklableEvent(Event):
    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("no number",))


def _logprobs(request: GenerationRequest, text: str) -> tuple[Logprobs, ...]:
    if request.top_logprobs is None:
        return ()
    top = tuple(TokenLogprob(f"alt{n}", -1.5 - n, f"alt{n}".encode()) for n in range(request.top_logprobs))
    return (Logprobs(TokenLogprob(text, -0.5, text.encode()), top),)


SUPPORTED_REQUESTS = (ChatRequest, CompletionRequest, TokenizeRequest, DetokenizeRequest)


class ScriptedModel(Model):
    supported_requests = SUPPORTED_REQUESTS
    supported_parameters = frozenset({"continue_final_message"})

    def __init__(self, options: ScriptedOptions) -> None:
        self.concurrency = options.slots
        self._generation_prompt = options.generation_prompt

    def generate(self, request: Request) -> Iterator[Event | None]:
        match request:
            case GenerationRequest():
                return self._generate_text(request)
            case TokenizeRequest():
                return _tokenize(request)
            case DetokenizeRequest():
                if any(token > sys.maxunicode for token in request.tokens):
                    raise InvalidRequestError("tokens: must be Unicode code points", param="tokens")
                return iter(
                    (Started(prompt_tokens=0), TextDelta("".join(map(chr, request.tokens)), token_count=0), Finished())
                )
        raise TypeError(request)

    def _generate_text(self, request: GenerationRequest) -> Iterator[Event | None]:
        steps = _steps(request)
        if steps and steps[0][0] == "reject":
            raise InvalidRequestError(steps[0][1], param="messages")
        if steps and steps[0][0] == "before_start":
            yield from _do(steps.pop(0)[1])
        yield Started(prompt_tokens=len(steps), generation_prompt=self._generation_prompt)
        if isinstance(request, CompletionRequest) and request.echo:
            yield _prompt_echo(request)
        tokens = 0
        reason: StopReason = "stop"
        for step in steps:
            match step:
                case ["text", text, *choice]:
                    tokens += 1
                    yield TextDelta(text, choice=choice[0] if choice else 0, logprobs=_logprobs(request, text))
                case ["finish", reason, choice]:
                    yield ChoiceFinished(reason, choice)
                case ["finish", reason]:
                    break
                case ["repeat", text]:
                    while request.max_tokens is None or tokens < request.max_tokens:
                        tokens += 1
                        yield TextDelta(text, logprobs=_logprobs(request, text))
                    reason = "length"
                case ["request", field]:
                    yield TextDelta(json.dumps(getattr(request, field), default=str))
                case _:
                    yield from _do(step)
        yield Finished(reason=reason, completion_tokens=tokens)


def _do(step: list[Any]) -> Iterator[Event | None]:
    match step:
        case ["progress", done, total]:
            yield Progress("prefill", done, total)
        case ["until", path]:
            while not Path(path).exists():
                time.sleep(0.001)  # Leave the CPU to other tests.
                yield None
        case ["append_line", path, line]:
            with Path(path).open("a") as file:
                file.write(f"{line}\n")
            yield None
        case ["block", path]:
            _wait_for(Path(path))
            yield None
        case ["touch_file", path]:
            Path(path).touch()
            yield None
        case ["fail", message]:
            raise ZeroDivisionError(message)
        case ["spawn", path]:
            child = subprocess.Popen([sys.executable, "-Sc", "import signal; signal.pause()"])
            Path(path).write_text(f"{child.pid}\n")
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["yield_value", value]:
            yield value
        case ["unpicklable"]:
            yield UnpicklableEvent()
        case ["logprob", logprob]:
            yield TextDelta("x", logprobs=(Logprobs(TokenLogprob("x", float(logprob), b"x")),))
        case ["lone_surrogate"]:
            yield TextDelta("a\ud800")
        case ["hang"]:
            threading.Event().wait()
        case ["hold_gil"]:
            # Catastrophic backtracking: does not return, and re does not release the GIL.
            re.match("(a|aa)+$", "a" * 200 + "b")
        case _:
            raise InvalidRequestError(f"messages: unknown step {step!r}", param="messages")


def _prompt_echo(request: CompletionRequest) -> PromptEcho:
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
        tokens = range(len(_steps(request.prompt)) + (0 if request.prompt.add_generation_prompt else -1))
        yield Tokenized(tuple(tokens), tuple(map(str, tokens)))
    else:
        text = f"^{request.prompt}" if request.special_tokens else request.prompt
        yield Tokenized(tuple(map(ord, text)), tuple(text))
    yield Finished()


def _steps(request: GenerationRequest) -> list[list[Any]]:
    if isinstance(request, CompletionRequest):
        if request.suffix == "reject":
            raise InvalidRequestError("suffix: rejected by the model", param="suffix")
        script: Any = request.prompt if isinstance(request.prompt, str) else json.dumps([["text", f"{request.prompt}"]])
    else:
        assert isinstance(request, ChatRequest)
        script = request.messages[-2 if request.continue_final_message else -1].get("content")
    try:
        steps = json.loads(script)
    except (ValueError, TypeError, KeyError):
        steps = None
    if isinstance(steps, list) and all(isinstance(step, list) and step for step in steps):
        return steps
    return [["text", "The last message is not a script."]]


def load(context: LoadContext[ScriptedOptions]) -> ScriptedModel:
    if context.options.fail_load:
        raise LoadError("fail_load is set")
    context.progress("load", 0, 1)
    if context.options.load_until is not None:
        _wait_for(context.options.load_until)
    marker = context.options.die_once
    if marker is not None and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    context.progress("load", 1, 1)
    return ScriptedModel(context.options)


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [Backend("scripted", load, ScriptedOptions, supported_requests=SUPPORTED_REQUESTS, needs_model=False)]
