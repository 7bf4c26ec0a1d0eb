"""The files of the packages that `mlx-host plugins new` writes, by path, with `$names` for string.Template.

PACKAGE has the files of every kind; a further kind is a mapping like BACKEND, and an entry of `new_plugin.KINDS`.
"""

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
dependencies = ["mlx-host>=$version"]

[project.optional-dependencies]
test = ["mlx-host[testing]"]

[project.entry-points.mlx_host]
$key = "$module"

[tool.hatch.build.targets.wheel]
include = ["$module.py"]
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

`$module.py` echoes the last message. Replace it by your model:

* load it in `load`: `load.path` is the folder of `--model` (set `needs_model` to true), `load.options` are the options;
  import heavy libraries there, not at the top of the module;
* yield a `Text` for each piece of output as soon as it is available;
* reject requests that you cannot honour with `UnsupportedRequest`.

`tests/test_contract.py` runs the model as mlx-host does.
""",
    "$module.py": '''\
"""An mlx-host backend: $name."""

from __future__ import annotations

from collections.abc import Iterator

from mlx_host import hookimpl
from mlx_host.backend import Backend, Load, Model, Options
from mlx_host.errors import UnsupportedRequest
from mlx_host.events import Event, Finished, Started, Text
from mlx_host.requests import ChatRequest
from pydantic import Field


class ${title}Options(Options):
    """Each field is a flag, a key of mlx-host.toml and an environment variable."""

    greeting: str = Field("You said:", description="Text at the beginning of every response.")


class ${title}Model(Model):
    # Maximum number of running requests.
    concurrency = 4

    def __init__(self, options: ${title}Options) -> None:
        self.greeting = options.greeting

    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        prompt = request.messages[-1].get("content")
        if not isinstance(prompt, str) or request.n > 1 or request.top_logprobs is not None:
            raise UnsupportedRequest("Only plain text content, n=1 and no logprobs are supported.")
        words = [self.greeting, *(f" {word}" for word in prompt.split())]
        output = words[: request.max_tokens]
        yield Started(prompt_tokens=len(words) - 1)
        for word in output:
            yield Text(word)
        yield Finished(reason="length" if len(output) < len(words) else "stop", completion_tokens=len(output))


def load(load: Load[${title}Options]) -> ${title}Model:
    return ${title}Model(load.options)


@hookimpl
def register_backends() -> list[Backend[${title}Options]]:
    summary = "Echoes the last message."
    return [Backend("$name", load, ${title}Options, needs_model=False, summary=summary)]
''',
    "tests/test_contract.py": """\
from mlx_host.testing import ModelContract, chat
from $module import register_backends


class Test$title(ModelContract):
    backend = register_backends()[0]
    requests = (chat("Hello, is there anybody there?"), chat("One two three four", max_tokens=2))
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

`$module.py` declares how the family's models mark reasoning and tool calls. Record what your model writes and make it
samples: text and what it means. `tests/test_contract.py` cuts, damages and mixes them, and checks that how a text was
cut never shows and that nothing of it is lost.
""",
    "$module.py": '''\
"""An mlx-host parser: $name."""

from __future__ import annotations

from collections.abc import Sequence

from mlx_host import hookimpl
from mlx_host.grammar import Grammar, chain
from mlx_host.parsing import Call, MarkupParser, Parser, Sample, ToolChoice, in_turn, json_calls, json_object_calls
from mlx_host.parsing.samples import OSLO, TOOLS
from mlx_host.requests import Json

CALL = '<call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</call>'


class ${title}Parser(MarkupParser):
    name = "$key"
    reads = "reasoning and calls of $name"
    # `--parser auto` chooses this family for a chat template that holds all strings of one of these.
    templates = (("<call>", "</call>"),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|end|>",)
    calls = (Call("<call>", json_calls("</call>")),)
    syntax = ("</call>",)
    samples = (
        Sample("answer", "It is cold.<|end|>", content="It is cold.", tools=TOOLS),
        Sample("reasoning", "<think>Cold?</think>Yes.", reasoning="Cold?", content="Yes."),
        Sample("opened by the prompt", "Cold?</think>Yes.", reasoning="Cold?", content="Yes.", prompt_tail="<think>"),
        Sample("call", f"I look. {CALL}<|end|>", content="I look. ", calls=(OSLO,), tools=TOOLS),
        Sample("two calls", CALL + CALL, calls=(OSLO, OSLO), tools=TOOLS),
        Sample("malformed", "<call>get_weather</call>", content="<call>get_weather</call>", tools=TOOLS),
        Sample("no tools in the request", CALL, content=CALL),
    )

    def grammar(self, tools: Sequence[Json], choice: ToolChoice) -> Grammar:
        # How calls are written, so that one can be forced.
        return in_turn(chain("<call>", json_object_calls(tools), "</call>"), choice)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [${title}Parser]
''',
    "tests/test_contract.py": """\
from mlx_host.testing import ParserContract
from $module import ${title}Parser


class Test$title(ParserContract):
    parser = ${title}Parser
""",
}
