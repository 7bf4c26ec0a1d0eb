"""Samples of a parser: outputs of the family's models with the expected result, and standard ones for all families.

A parser's samples are the tuple `SAMPLES` in the module `samples` of the package that defines it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_host.errors import PluginError
from mlx_host.parsing import MarkupParser, Parser
from mlx_host.requests import Json


@dataclass(frozen=True)
class Sample:
    """An output of the family's models with the expected result; the contract also tests variations of it.

    `calls` are names and arguments as Python values. `tools` are in OpenAI's format. `generation_prompt` and `tools`
    are passed to the parser.
    """

    name: str
    text: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    generation_prompt: str = ""
    tools: Sequence[Json] = ()


def load_samples(parser: type[Parser]) -> tuple[Sample, ...]:
    """Import the samples of a parser; PluginError if its package has none."""
    package = sys.modules[parser.__module__].__package__
    module = f"{package}.samples"
    # A top-level module has an empty package name.
    if not package or importlib.util.find_spec(module) is None:
        raise PluginError(
            f"Parser {parser.name!r} has no samples. Define SAMPLES, a tuple of mlx_host.testing.samples.Sample, "
            f"in the module 'samples' of its package."
        )
    samples: tuple[Sample, ...] = importlib.import_module(module).SAMPLES
    return samples


def _tool(name: str, properties: dict[str, Any], **more: Any) -> Json:
    parameters = {"type": "object", "properties": properties, **more}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS: tuple[Json, ...] = (
    _tool("get_weather", {"city": {"type": "string"}, "days": {"type": "integer"}}, required=["city"]),
    _tool("now", {}),
    _tool("write_file", {"path": {"type": "string"}, "text": {"type": "string"}}),
    _tool(
        "set-light",
        {
            "level": {"type": ["integer", "null"]},
            "warmth": {"type": "number"},
            "on": {"type": "boolean"},
            "rooms": {"type": "array", "items": {"type": "string"}},
            "colour": {"$ref": "#/$defs/Colour"},
            "scene": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        **{"$defs": {"Colour": {"type": "object", "properties": {"red": {"type": "integer"}}}}},
    ),
)
"""Tools with parameters of every type."""

OSLO = ("get_weather", {"city": "Oslo"})
ROME = ("get_weather", {"city": "Rome", "days": 3})
NOW: tuple[str, dict[str, Any]] = ("now", {})
LIGHT: tuple[str, dict[str, Any]] = (
    "set-light",
    {
        "level": None,
        "warmth": 0.5,
        "on": True,
        "rooms": ["hall", "7"],
        "colour": {"red": 9007199254740993},
        "scene": "none",
    },
)
"""A call with a value of every type; the integer exceeds the exact range of a double."""

SCRIPT = 'if a < b:\n    print("</think> <tool_call> \\n")\n'
"""The content of a file, with many characters that occur in markup."""
WRITE: tuple[str, dict[str, Any]] = ("write_file", {"path": "007", "text": SCRIPT})
UNKNOWN: tuple[str, dict[str, Any]] = ("f-1.g", {"a": 1})
"""A call to a function that is not one of the tools."""


def standard_samples(
    parser: type[MarkupParser], *, malformed: str = "", leave_out: Collection[str] = ()
) -> tuple[Sample, ...]:
    """Create the samples that apply to every family, with the parser's markers and its first call format.

    `malformed` is text that begins like a call but is invalid, by default the call's opening marker and `{oops}`.
    `leave_out` contains the names of samples that do not apply to this family.
    """
    samples = [*(_reasoning(parser) if parser.think_open else ())]
    if parser.can_force_calls():
        samples += _calls(parser, malformed or parser.call_starts[0] + "{oops}")
        samples += _calls_and_reasoning(parser) if parser.think_open else ()
    if unknown := set(leave_out) - {sample.name for sample in samples}:
        raise ValueError(f"unknown standard samples {sorted(unknown)} of parser {parser.name!r}")
    return tuple(sample for sample in samples if sample.name not in leave_out)


def _reasoning(parser: type[MarkupParser]) -> Iterator[Sample]:
    opener, closer = parser.think_open[0], parser.think_close[0]
    closed = f"Cold?\n{closer}\n\nIt is cold."
    yield Sample("reasoning", f"{opener}\n{closed}", "It is cold.", "Cold?")
    yield Sample("reasoning opened by the prompt", closed, "It is cold.", "Cold?", generation_prompt=f"{opener}\n")
    yield Sample(
        "reasoning opened by the prompt and again by the model",
        f"{opener}\n{closed}",
        content="It is cold.",
        reasoning="Cold?",
        generation_prompt=f"{opener}\n",
    )
    yield Sample(
        "reasoning closed by the prompt", "Yes.", content="Yes.", generation_prompt=f"{opener}\n\n{closer}\n\n"
    )
    yield Sample("reasoning cut off", "Cold? Let", reasoning="Cold? Let", generation_prompt=f"{opener}\n")


def _calls(parser: type[MarkupParser], malformed: str) -> Iterator[Sample]:
    oslo, rome = _write(parser, OSLO), _write(parser, ROME)
    end = parser.ignored_tokens[0] if parser.ignored_tokens else ""
    yield Sample("no call", "It is <cold>: [7].\n", content="It is <cold>: [7].\n", tools=TOOLS)
    yield Sample("call", oslo + end, calls=(OSLO,), tools=TOOLS)
    yield Sample("parallel calls", _write(parser, OSLO, ROME), calls=(OSLO, ROME), tools=TOOLS)
    yield Sample("values of every type", _write(parser, LIGHT), calls=(LIGHT,), tools=TOOLS)
    yield Sample("text that looks like markup", _write(parser, WRITE), calls=(WRITE,), tools=TOOLS)
    yield Sample("no arguments", _write(parser, NOW), calls=(NOW,), tools=TOOLS)
    yield Sample("unknown function", _write(parser, UNKNOWN), calls=(UNKNOWN,), tools=TOOLS)
    yield Sample(
        "text around calls",
        f"I look.\n{oslo}\nAnd {rome}\nSo.",
        content="I look.\n\nAnd \nSo.",
        calls=(OSLO, ROME),
        tools=TOOLS,
    )
    cut = oslo[: oslo.index("Oslo") + 2]
    yield Sample("cut off", cut, content=cut, tools=TOOLS)
    yield Sample(
        "malformed call before a valid one",
        f"{malformed}\n{oslo}",
        content=f"{malformed}\n",
        calls=(OSLO,),
        tools=TOOLS,
    )
    yield Sample("no tools in the request", oslo, content=oslo)


def _calls_and_reasoning(parser: type[MarkupParser]) -> Iterator[Sample]:
    opener, closer = parser.think_open[0], parser.think_close[0]
    oslo, rome = _write(parser, OSLO), _write(parser, ROME)
    yield Sample(
        "reasoning, then a call",
        f"{opener}\nCold?\n{closer}\n\n{oslo}",
        reasoning="Cold?",
        calls=(OSLO,),
        tools=TOOLS,
    )
    yield Sample(
        "reasoning, text, then a call",
        f"{opener}\nCold?\n{closer}\n\nI look.\n\n{oslo}",
        content="I look.\n\n",
        reasoning="Cold?",
        calls=(OSLO,),
        tools=TOOLS,
    )
    yield Sample(
        "call in reasoning that is never closed",
        f"Cold? I ask.\n\n{oslo}",
        reasoning="Cold? I ask.",
        calls=(OSLO,),
        generation_prompt=f"{opener}\n",
        tools=TOOLS,
    )
    yield Sample(
        "call drafted in reasoning",
        f"{opener}\nMaybe {rome}.\n{closer}\n\nIt is cold.",
        content="It is cold.",
        reasoning=f"Maybe {rome}.",
        tools=TOOLS,
    )
    yield Sample(
        "call drafted in reasoning, then made",
        f"I could {rome}.{closer}{oslo}",
        reasoning=f"I could {rome}.",
        calls=(OSLO,),
        generation_prompt=f"{opener}\n",
        tools=TOOLS,
    )
    mention = f"A {parser.call_starts[0]} is due."
    yield Sample(
        "opener mentioned in reasoning",
        f"{mention}\n{closer}\n\nNo.",
        content="No.",
        reasoning=mention,
        generation_prompt=f"{opener}\n",
        tools=TOOLS,
    )


def _write(parser: type[MarkupParser], *calls: tuple[str, Mapping[str, Any]]) -> str:
    return parser.write_calls(calls)[0]
