"""Helpers that feed parsers chunk by chunk."""

from collections.abc import Iterable, Sequence

from mlx_host.parsing import Parser, Part
from mlx_host.requests import Json
from mlx_host.testing.samples import TOOLS


def read(
    parser: type[Parser],
    pieces: Iterable[str],
    *,
    generation_prompt: str = "",
    tools: Sequence[Json] = TOOLS,
    reasoning: bool = True,
) -> list[list[Part]]:
    """Return the parts after each chunk and at the end."""
    reading = parser(generation_prompt=generation_prompt, tools=tools, reasoning=reasoning)
    return [*map(reading.feed, pieces), reading.finish()]


def parts_of(parser: type[Parser], text: str, *, generation_prompt: str = "", reasoning: bool = True) -> list[Part]:
    """Return the parts of a text that is fed whole."""
    fed = read(parser, [text], generation_prompt=generation_prompt, reasoning=reasoning)
    return [part for parts in fed for part in parts]
