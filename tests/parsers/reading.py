"""Running a parser as a server does, piece by piece."""

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
    """Return what comes out after each piece, and at the end."""
    reading = parser(generation_prompt=generation_prompt, tools=tools, reasoning=reasoning)
    return [*map(reading.feed, pieces), reading.finish()]


def parts_of(parser: type[Parser], text: str, *, generation_prompt: str = "", reasoning: bool = True) -> list[Part]:
    """Return what comes out of the whole text."""
    fed = read(parser, [text], generation_prompt=generation_prompt, reasoning=reasoning)
    return [part for parts in fed for part in parts]
