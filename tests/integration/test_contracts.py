"""Every installed backend and parser passes its contract.

A parser has samples, so every installed one is tested. A backend needs a ModelContract subclass, here or in the tests
of its plugin; a backend without one fails a test that names it.
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

from tests.agents.driver import plan
from tests.support.tiny_llama import write_tiny_llama

ROOT = Path(__file__).parents[2]
PLUGINS = Plugins({})
PARSERS = sorted(set(PLUGINS.parsers.found.values()), key=lambda parser: parser.name)


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


class TestScripted(ModelContract):
    backend = PLUGINS.backend("scripted")
    requests = (
        chat(json.dumps([["text", "one"], ["text", " two"], ["text", " three"]])),
        chat(json.dumps([["progress", 1, 2], ["text", "four"], ["finish", "length"]])),
    )


class TestPlanned(ModelContract):
    backend = PLUGINS.backend("planned")
    requests = (
        chat(plan("One step."), tools=TOOLS),
        chat(plan("Another, longer step."), tools=TOOLS),
    )


class TestLm(ModelContract):
    backend = LM
    requests = (
        chat("Say something.", max_tokens=6),
        chat("What is the capital of France?", max_tokens=9),
        chat("Two choices, please.", max_tokens=5, n=2),
        CompletionRequest(id="c", model="m", prompt="Once upon a", n=2, max_tokens=5, sampling=Sampling(temperature=0)),
        CompletionRequest(id="e", model="m", prompt=[9690, 198], echo=True, top_logprobs=1, max_tokens=0),
        TokenizeRequest(id="t", model="m", prompt=chat("Say something.")),
        DetokenizeRequest(id="d", model="m", tokens=[9690, 198]),
    )

    @classmethod
    def path(cls, empty: Path) -> Path:
        return write_tiny_llama(empty, context_length=256)


@cache
def backends_under_contract() -> set[str]:
    """The names of the backends that have a ModelContract test."""
    files = [*ROOT.glob("tests/plugins/**/test_*.py"), Path(__file__), *ROOT.glob("examples/**/test_*.py")]
    modules = [_module(file) for file in files if "(ModelContract)" in file.read_text(encoding="utf-8")]
    things = [thing for module in modules for thing in vars(module).values() if isinstance(thing, type)]
    return {case.backend.name for case in things if issubclass(case, ModelContract) and case is not ModelContract}


def _module(file: Path) -> ModuleType:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    if name.isascii() and name.replace(".", "").isidentifier():
        return importlib.import_module(name)
    # An example is a separate project, in a folder that is not a package.
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(PLUGINS.backends.found))
def test_each_backend_is_tested(name: str) -> None:
    assert name in backends_under_contract(), f"no test class inherits ModelContract for backend {name!r}; write one"


@pytest.mark.parametrize("law", [name for name in vars(ParserContract) if name.startswith("test_")])
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_a_parser_passes(parser: type[Parser], law: str) -> None:
    contract = type("Contract", (ParserContract,), {"parser": parser})
    getattr(contract(), law)()


def test_backends_and_parsers_are_installed() -> None:
    assert {"echo", "lm", "scripted"} <= set(PLUGINS.backends.found)
    assert PLUGINS.parser("qwen3") in PARSERS
    assert PLUGINS.problems() == []
