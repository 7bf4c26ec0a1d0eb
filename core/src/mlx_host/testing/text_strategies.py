"""Hypothesis strategies for parser input: damaged samples, and mixtures of samples, markers and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from mlx_host.parsing import Parser
from mlx_host.requests import Json
from mlx_host.testing.samples import Sample

NOISE = (
    " ",
    "\n",
    "\n\n",
    "x",
    "<",
    ">",
    "|",
    '"',
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "`",
    "```\n",
    "é",
    "🙂",
    "null",
)
ANY_TOOL: Json = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@dataclass(frozen=True)
class Case:
    """A text, and the arguments of the parser."""

    text: str
    generation_prompt: str = ""
    tools: Sequence[Json] = ()
    reasoning: bool = True
    truncated: bool = False

    @classmethod
    def of(cls, sample: Sample) -> Case:
        return cls(sample.text, sample.generation_prompt, sample.tools)


@st.composite
def chunks_of(draw: st.DrawFn, text: str) -> list[str]:
    """`text` in chunks of up to 12 characters, which is about the length of a marker; some are empty."""
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any))
    chunks: list[str] = []
    at = 0
    while at < len(text):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(text[at : at + size])
        at += size
    return chunks


@st.composite
def cases(draw: st.DrawFn, samples: Sequence[Sample], text: str, sample: Sample) -> Case:
    prompts = sorted({"", sample.generation_prompt, *(other.generation_prompt for other in samples)})
    return Case(
        text,
        generation_prompt=draw(st.sampled_from([sample.generation_prompt, *prompts])),
        tools=draw(st.sampled_from([sample.tools or (ANY_TOOL,), (ANY_TOOL,), ()])),
        reasoning=draw(st.sampled_from([True, True, False])),
        truncated=draw(st.booleans()),
    )


@st.composite
def damaged(draw: st.DrawFn, parser: type[Parser], samples: Sequence[Sample]) -> Case:
    """A sample with parts removed, and markers or noise inserted: unquoted, quoted or fenced."""
    sample = draw(st.sampled_from(samples))
    text = sample.text
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        removed = draw(st.one_of(st.integers(0, 3), st.integers(0, 40)))
        inserted = draw(st.one_of(st.just(""), snippets(parser)))
        wrap = draw(st.sampled_from(["{}", "{}", '"{}"', "`{}`", "```\n{}\n```"]))
        text = text[:at] + wrap.replace("{}", inserted) * bool(inserted) + text[at + removed :]
    end = draw(st.sampled_from([len(text), len(text) // 2]))
    return draw(cases(samples, text[:end], sample))


@st.composite
def mixture(draw: st.DrawFn, parser: type[Parser], samples: Sequence[Sample]) -> Case:
    """Markers, excerpts of samples, noise and random characters in random order."""
    sample = draw(st.sampled_from(samples))
    excerpt = st.tuples(st.sampled_from(samples), st.integers(0, 200), st.integers(0, 60)).map(
        lambda cut: cut[0].text[cut[1] : cut[1] + cut[2]]
    )
    count = draw(st.sampled_from([3, 6, 12]))
    texts = draw(st.lists(snippets(parser) | excerpt, min_size=count, max_size=count))
    return draw(cases(samples, "".join(texts), sample))


def snippets(parser: type[Parser]) -> st.SearchStrategy[str]:
    markers = parser.markers or ("",)
    whole = st.sampled_from(markers)
    part = st.tuples(whole, st.integers(1, 12)).map(lambda cut: cut[0][: cut[1]])
    return st.one_of(whole, whole, part, st.sampled_from(NOISE), st.text(min_size=1, max_size=4))
