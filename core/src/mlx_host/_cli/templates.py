"""The files that `mlx-host plugins new` creates, by path, as string.Template texts."""

from __future__ import annotations

from collections.abc import Mapping

PACKAGE: Mapping[str, str] = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$distribution"
version = "0.1.0"
description = "An mlx-host $kind: $name"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["mlx-host$contract"]

[project.optional-dependencies]
test = ["mlx-host[testing]"]

[project.entry-points.mlx_host]
$key = "$module"

[tool.hatch.build.targets.wheel]
include = ["/$module*"]
""",
}

BACKEND: Mapping[str, str] = {
    "README.md": """\
# $distribution

An mlx-host backend.

```sh
pip install --editable ".[test]"
pytest
mlx-host run --backend $name --help
mlx-host run --backend $name
```

`$module.py` repeats the prompt. Replace its model with yours:

* load it in `load`: `context.path` is the local folder of `--model` if `needs_model` is true, `context.options` are the
  options. Import heavy libraries there instead of at the top of the module;
* yield a `TextDelta` for each piece of output as it is generated;
* reject what you do not support with `UnsupportedRequestError`.

`tests/test_contract.py` tests the model the way mlx-host uses it.
""",
    "$module.py": '''\
"""An mlx-host backend: $name."""

from __future__ import annotations

from collections.abc import Iterator

from mlx_host import hookimpl
from mlx_host.backend import Backend, LoadContext, Model, Options, message_text
from mlx_host.errors import UnsupportedRequestError
from mlx_host.events import Event, Finished, Started, TextDelta
from mlx_host.requests import ChatRequest
from pydantic import Field


class ${title}Options(Options):
    """Each field is a flag, a key of mlx-host.toml and an environment variable."""

    greeting: str = Field("You said:", description="The beginning of every response.")


class ${title}Model(Model):
    # The number of requests that may run at once.
    concurrency = 4

    def __init__(self, options: ${title}Options) -> None:
        self.greeting = options.greeting

    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        if request.n > 1 or request.top_logprobs is not None:
            raise UnsupportedRequestError("This model supports one choice (n = 1) without logprobs.")
        prompt = message_text(request.messages[-1]).split()
        words = [self.greeting, *(f" {word}" for word in prompt)]
        output = words[: request.max_tokens]
        yield Started(prompt_tokens=len(prompt))
        for word in output:
            yield TextDelta(word)
        yield Finished(reason="length" if len(output) < len(words) else "stop", completion_tokens=len(output))


def load(context: LoadContext[${title}Options]) -> ${title}Model:
    return ${title}Model(context.options)


@hookimpl
def register_backends() -> list[Backend[${title}Options]]:
    summary = "repeats the prompt"
    return [Backend("$name", load, ${title}Options, needs_model=False, summary=summary)]
''',
    "tests/test_contract.py": """\
from mlx_host.testing import ModelContract, chat
from $module import register_backends


class Test$title(ModelContract):
    backend = register_backends()[0]
    requests = (chat("Hello, how are you?"), chat("One two three four", max_tokens=2))
""",
}

PARSER: Mapping[str, str] = {
    "README.md": """\
# $distribution

An mlx-host parser.

```sh
pip install --editable ".[test]"
pytest
mlx-host parser fuzz $name
mlx-host run --backend lm --parser $name --model MODEL
```

`$module/__init__.py` declares the markup of the models' reasoning and tool calls. Record outputs of your model, and
add them to `$module/samples.py` with the expected result. `tests/test_contract.py` splits, damages and combines the
samples. It checks that the result does not depend on the chunks, that no text is lost, and that the grammar of tool
calls, the formatted calls and the parsed calls agree.
""",
    "$module/__init__.py": '''\
"""An mlx-host parser: $name."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import JsonCall, MarkupParser, Parser, TaggedCalls


class ${title}Parser(MarkupParser):
    name = "$key"
    description = "reasoning and calls of $name"
    # `--parser auto` selects this family for a chat template that contains all strings of one of these.
    template_signatures = (("<call>", "</call>"),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    ignored_tokens = ("<|end|>",)
    calls = (TaggedCalls("<call>", JsonCall(), "</call>"),)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [${title}Parser]
''',
    "$module/samples.py": '''\
"""Recorded outputs of $name, with the expected result."""

from mlx_host.testing.samples import OSLO, TOOLS, Sample, standard_samples

from $module import ${title}Parser

CALL = '<call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</call>'

SAMPLES = (
    *standard_samples(${title}Parser),
    Sample("end of turn", "It is cold.<|end|>", content="It is cold."),
    Sample("text before a call", f"I look. {CALL}", content="I look. ", calls=(OSLO,), tools=TOOLS),
)
''',
    "$module/py.typed": "",
    "tests/test_contract.py": """\
from mlx_host.testing import ParserContract
from $module import ${title}Parser


class Test$title(ParserContract):
    parser = ${title}Parser
""",
}

API: Mapping[str, str] = {
    "README.md": """\
# $distribution

An mlx-host API: `POST /v1/$name`.

```sh
pip install --editable ".[test]"
pytest
mlx-host run --backend $name
```

`$module/__init__.py` registers the API, its settings, its request type, and a backend that supports it;
`$module/routes.py` defines the endpoint. Replace them with yours:

* an endpoint converts the body to a request, submits it, and returns `respond(...)` with an `Encoder` for a stream or
  a `Collector` for a non-streaming response;
* an API for existing backends submits one of the requests of `mlx_host.requests` and does not need a backend; a
  `ChatRequest` is submitted with `service.chat`;
* reject unsupported parameters with `InvalidRequestError`, and list parameters without effect, which `ignored_fields`
  finds, in `ignored_header`.

`tests/test_contract.py` starts a server with the API and tests it the way clients use it.
""",
    "$module/__init__.py": '''\
"""An mlx-host API: $name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mlx_host import hookimpl
from mlx_host.api import Api, ApiSettings, Endpoints, Service
from mlx_host.backend import Backend, LoadContext, Model, Options
from mlx_host.events import Event, Finished, Started, TextDelta
from mlx_host.requests import Request
from pydantic import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class ${title}Request(Request):
    """The request that the endpoint submits; its type determines which models support it."""

    task: ClassVar[str] = "$name"

    text: str


class ${title}Settings(ApiSettings):
    """Each field is a flag, a key of [apis.$name] and an environment variable."""

    max_characters: int = Field(4096, ge=1, description="Maximum length of the text of a request.")


class ${title}Model(Model):
    supported_requests = (${title}Request,)
    concurrency = 4

    def generate(self, request: ${title}Request) -> Iterator[Event | None]:
        words = request.text.split()
        yield Started(prompt_tokens=len(words))
        for word in words:
            yield TextDelta(f"{word} ")
        yield Finished(completion_tokens=len(words))


def load(context: LoadContext[Options]) -> ${title}Model:
    return ${title}Model()


def create(service: Service, settings: ${title}Settings) -> Endpoints:
    # Imported here: the web framework is slow to import, and most commands do not need it.
    from .routes import TextEndpoints

    return TextEndpoints(service, settings)


API = Api(
    name="$name",
    summary="repeats a text",
    settings=${title}Settings,
    create=create,
    prefixes=("/v1/$name",),
    request_types=(${title}Request,),
)


@hookimpl
def register_apis() -> list[Api[Any]]:
    return [API]


@hookimpl
def register_backends() -> list[Backend[Options]]:
    supported = (${title}Request,)
    return [Backend("$name", load, Options, supported, needs_model=False, summary="repeats a text")]
''',
    "$module/routes.py": '''\
"""POST /v1/$name."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from mlx_host.api import Deadline, Endpoints, Service
from mlx_host.api.http import (
    Collector,
    Encoder,
    JsonResponse,
    caller,
    dumps,
    examples,
    ignored_fields,
    ignored_header,
    new_router,
    respond,
)
from mlx_host.errors import InvalidRequestError
from mlx_host.events import Event, TextDelta
from pydantic import BaseModel, ConfigDict, Field

from . import (
    ${title}Request,
    ${title}Settings,
)


class Body(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str = ""
    text: str = Field(min_length=1)
    stream: bool = False


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


class TextCollector(Collector[Event]):
    """Collects the output into one JSON object."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, events: Sequence[Event]) -> None:
        self.text += text_of(events)

    async def response(self) -> Response:
        return JsonResponse({"text": self.text})


class TextEncoder(Encoder[Event]):
    """Encodes the output as server-sent events."""

    def encode(self, events: Sequence[Event]) -> list[str]:
        text = text_of(events)
        return [dumps({"text": text})] if text else []


class TextEndpoints(Endpoints):
    def __init__(self, service: Service, settings: ${title}Settings) -> None:
        self.service = service
        self.settings = settings

    def router(self) -> APIRouter:
        router = new_router()

        @router.post("/v1/$name", response_model=None, **examples({"text": "hello"}, {"text": "hello"}))
        async def endpoint(body: Body, http: Request) -> Response:
            """Return the output of a model for a text."""
            if len(body.text) > self.settings.max_characters:
                limit = self.settings.max_characters
                raise InvalidRequestError(f"text: {len(body.text)} characters; the limit is {limit}.", param="text")
            request = ${title}Request(
                id=f"req-{uuid.uuid4().hex}",
                model=body.model,
                text=body.text,
            )
            reply = self.service.submit(request, caller=caller(http), deadline=Deadline.of(stream=body.stream))
            headers = ignored_header(ignored_fields(body))
            return await respond(http, reply, TextEncoder() if body.stream else TextCollector(), headers)

        return router
''',
    "tests/test_contract.py": """\
import json
from typing import ClassVar

from mlx_host.testing import ApiContract, HttpResponse
from $module import API


class Test$title(ApiContract):
    api = API
    arguments = ("--backend", "$name")
    path = "/v1/$name"
    body: ClassVar = {"text": "Hello there"}
    stream: ClassVar = {"stream": True}
    invalid = ({"text": ""}, {"text": "x" * 5000})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        if response.media_type == "application/json":
            return response.json()["text"]
        return "".join(json.loads(data)["text"] for _, data in response.messages())
""",
}
