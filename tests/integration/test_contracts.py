"""Every installed backend and parser keeps its contract.

A parser brings its own samples; it is tried because it is installed. A backend needs a case, which lies with the tests
of its plugin, or here; one without fails here by its name.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from mlx_host._plugins.manager import Plugins
from mlx_host.parsing import Parser
from mlx_host.requests import CompletionRequest, DetokenizeRequest, Sampling, TokenizeRequest
from mlx_host.testing import ModelContract, ParserContract, chat
from mlx_host_lm.plugin import LM

from tests.support.tiny_llama import write_tiny_llama

ROOT = Path(__file__).parents[2]
PLUGINS = Plugins({})
PARSERS = sorted(set(PLUGINS.parsers.found.values()), key=lambda parser: parser.name)


class TestScripted(ModelContract):
    backend = PLUGINS.backend("scripted")
    requests = (
        chat(json.dumps([["say", "one"], ["say", " two"], ["say", " three"]])),
        chat(json.dumps([["prefilled", 1, 2], ["say", "four"], ["end", "length"]])),
    )


class TestLm(ModelContract):
    backend = LM
    requests = (
        chat("Say something.", max_tokens=6),
        chat("What is the capital of France?", max_tokens=9),
        chat("Two answers, please.", max_tokens=5, n=2),
        CompletionRequest(id="c", model="m", prompt="Once upon a", n=2, max_tokens=5, sampling=Sampling(temperature=0)),
        CompletionRequest(id="e", model="m", prompt=[9690, 198], echo=True, top_logprobs=1, max_tokens=0),
        TokenizeRequest(id="t", model="m", prompt=chat("Say something.")),
        DetokenizeRequest(id="d", model="m", tokens=[9690, 198]),
    )

    @classmethod
    def path(cls, empty: Path) -> Path:
        return write_tiny_llama(empty, context_length=256)


@cache
def tried() -> set[str]:
    """The names of the backends that some test tries the contract on."""
    files = [*ROOT.glob("tests/plugins/**/test_*.py"), Path(__file__), *ROOT.glob("examples/**/test_*.py")]
    modules = [_module(file) for file in files if "(ModelContract)" in file.read_text(encoding="utf-8")]
    things = [thing for module in modules for thing in vars(module).values() if isinstance(thing, type)]
    return {case.backend.name for case in things if issubclass(case, ModelContract) and case is not ModelContract}


def _module(file: Path) -> ModuleType:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    if name.isascii() and name.replace(".", "").isidentifier():
        return importlib.import_module(name)
    # An example is a project of its own, in a folder that is no package.
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(PLUGINS.backends.found))
def test_a_backend_has_a_case(name: str) -> None:
    assert name in tried(), f"backend {name!r} has no subclass of ModelContract among the tests; write one"


@pytest.mark.parametrize("law", [name for name in vars(ParserContract) if name.startswith("test_")])
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_a_parser_keeps(parser: type[Parser], law: str) -> None:
    contract = type("Contract", (ParserContract,), {"parser": parser})
    getattr(contract(), law)()


def test_there_is_something_to_try() -> None:
    assert {"echo", "lm", "scripted"} <= set(PLUGINS.backends.found)
    assert PLUGINS.parser("qwen3") in PARSERS
    assert PLUGINS.problems() == []
