"""What `mlx-host plugins new` writes: the text of each file by its path, with `$names` for string.Template."""

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

`$module.py` says back what it is told. Put your model in its place:

* load it in `load`, which gets `load.path` (the folder that `--model` became, once `needs_model` is true) and the
  options; import heavy libraries there and not at the top;
* yield a `Text` for each piece of the answer as it comes;
* refuse what you cannot honour with `UnsupportedRequest`.

`tests/test_contract.py` tries the model as mlx-host uses it.
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

    greeting: str = Field("You said:", description="What every answer begins with.")


class ${title}Model(Model):
    # How many answers may be open at once.
    concurrency = 4

    def __init__(self, options: ${title}Options) -> None:
        self.greeting = options.greeting

    def generate(self, request: ChatRequest) -> Iterator[Event | None]:
        told = request.messages[-1].get("content")
        if not isinstance(told, str) or request.n > 1 or request.top_logprobs is not None:
            raise UnsupportedRequest("There is one answer, without logprobs, to a message of plain text.")
        words = [self.greeting, *(f" {word}" for word in told.split())]
        said = words[: request.max_tokens]
        yield Started(prompt_tokens=len(words) - 1)
        for word in said:
            yield Text(word)
        yield Finished(reason="length" if len(said) < len(words) else "stop", completion_tokens=len(said))


def load(load: Load[${title}Options]) -> ${title}Model:
    return ${title}Model(load.options)


@hookimpl
def register_backends() -> list[Backend[${title}Options]]:
    summary = "says back what it is told"
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

`$module/__init__.py` declares how the family's models mark reasoning and tool calls. Record outputs of your model
and add them to `$module/samples.py` with what they mean. `tests/test_contract.py` splits, damages and mixes the samples
and checks that the result does not depend on the chunks, that no text is lost, and that the grammar of calls, the text
that is written and what is read agree.
""",
    "$module/__init__.py": '''\
"""An mlx-host parser: $name."""

from __future__ import annotations

from mlx_host import hookimpl
from mlx_host.parsing import JsonCall, MarkupParser, Parser, TaggedCalls


class ${title}Parser(MarkupParser):
    name = "$key"
    reads = "reasoning and calls of $name"
    # `--parser auto` selects this family for a chat template that contains all strings of one of these.
    templates = (("<call>", "</call>"),)
    think_open = ("<think>",)
    think_close = ("</think>",)
    noise = ("<|end|>",)
    calls = (TaggedCalls("<call>", JsonCall(), "</call>"),)


@hookimpl
def register_parsers() -> list[type[Parser]]:
    return [${title}Parser]
''',
    "$module/samples.py": '''\
"""Outputs of $name, and what they mean."""

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
