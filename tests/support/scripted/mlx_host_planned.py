"""A backend that drives coding agents: it follows a plan in the conversation, one step per turn.

A user message contains `<<<PLAN>>>`, where PLAN is `{"limit": TOKENS or null, "steps": [...]}` as JSON in base64,
because agents quote their users' messages. The steps are:

"text"                       the text, which ends the agent's turn
"!results"                   the results of all calls so far, as text
[[tool, arguments], ...]     calls of tools; "*name" is the only tool whose name ends with `name`
{"fail_once": step}          fail in the middle of the output, and do `step` when the client tries again

The next step is that of the number of assistant messages after the plan. A prompt of more than `limit` tokens is
rejected as too long; a token is four characters. A request for a summary gets one that contains the rest of the plan.
Requests without tools, such as those for a title, get a short text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model, Options
from mlx_host.errors import ContextLengthExceededError, InvalidRequestError
from mlx_host.events import Event, Finished, Started, TextDelta, Tokenized
from mlx_host.requests import ChatRequest, Json, Request, TokenizeRequest

PLAN = re.compile("<<<([A-Za-z0-9+/=]*)>>>")
SUMMARY = re.compile(r"\bsummar(y|ize)", re.IGNORECASE)
SUPPORTED_REQUESTS = (ChatRequest, TokenizeRequest)


class PlannedOptions(Options):
    """The backend has no options."""


def encode_plan(steps: Sequence[Any], limit: int | None) -> str:
    """Return the text that contains a plan."""
    plan = json.dumps({"limit": limit, "steps": steps})
    return f"<<<{base64.b64encode(plan.encode()).decode()}>>>"


def _text(message: Json) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _tokens(request: ChatRequest) -> int:
    return len(json.dumps([request.messages, request.tools], default=str)) // 4


class PlannedModel(Model):
    supported_requests = SUPPORTED_REQUESTS
    supported_parameters = frozenset({"continue_final_message"})
    concurrency = 8

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def generate(self, request: Request) -> Iterator[Event | None]:
        if isinstance(request, TokenizeRequest):
            assert isinstance(request.prompt, ChatRequest)
            yield Started(prompt_tokens=0)
            tokens = range(_tokens(request.prompt))
            yield Tokenized(tuple(tokens), tuple(map(str, tokens)))
            yield Finished()
            return
        assert isinstance(request, ChatRequest)
        prompt_tokens = _tokens(request)
        is_summary = _asks_for_summary(request.messages[-1])
        steps, limit, done = _find_plan(request) if request.tools or is_summary else ([], None, 0)
        if limit is not None and prompt_tokens > limit:
            raise ContextLengthExceededError(limit, prompt_tokens)
        yield Started(prompt_tokens=prompt_tokens)
        text = "OK"
        if is_summary:
            text = f"<summary>The rest of the plan: {encode_plan(steps[done:], limit)}</summary>"
        elif done < len(steps):
            step = steps[done]
            if isinstance(step, dict):
                key = json.dumps(steps)
                if key not in self._failed:
                    self._failed.add(key)
                    yield TextDelta("This will")
                    raise ZeroDivisionError("planned failure")
                step = step["fail_once"]
            text = _output(step, request)
        yield TextDelta(text, token_count=len(text) // 4 + 1)
        yield Finished(completion_tokens=len(text) // 4 + 1)


def _find_plan(request: ChatRequest) -> tuple[list[Any], int | None, int]:
    """Return the steps of the last plan, its limit, and the number of steps that are done."""
    for index in reversed(range(len(request.messages))):
        message = request.messages[index]
        if message["role"] == "user" and (found := PLAN.findall(_text(message))):
            plan = json.loads(base64.b64decode(found[-1]))
            later = request.messages[index + 1 :]
            return plan["steps"], plan["limit"], sum(each["role"] == "assistant" for each in later)
    return [], None, 0


def _asks_for_summary(message: Json) -> bool:
    text = _text(message)
    return message["role"] == "user" and SUMMARY.search(text) is not None and PLAN.search(text) is None


def _output(step: Any, request: ChatRequest) -> str:
    if step == "!results":
        return "\n".join(["Results:", *(_text(each) for each in request.messages if each["role"] == "tool")])
    if isinstance(step, str):
        return step
    calls = [{"name": _tool_name(name, request), "arguments": arguments} for name, arguments in step]
    return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


def _tool_name(name: str, request: ChatRequest) -> str:
    if not name.startswith("*"):
        return name
    offered: list[str] = [tool["function"]["name"] for tool in request.tools]
    found = [each for each in offered if each.endswith(name[1:])]
    if len(found) != 1:
        raise InvalidRequestError(f"tools: {len(found)} tools end with {name[1:]!r}; offered: {offered}", param="tools")
    return found[0]


def load(context: LoadContext[PlannedOptions]) -> PlannedModel:
    return PlannedModel()


@hookimpl
def register_backends() -> Iterable[Backend[Any]]:
    return [Backend("planned", load, PlannedOptions, supported_requests=SUPPORTED_REQUESTS, needs_model=False)]
