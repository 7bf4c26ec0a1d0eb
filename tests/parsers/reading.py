"""Running a parser as a server does, piece by piece."""

from collections.abc import Iterable, Sequence

from mlx_host.parsing import Parser, Part
from mlx_host.requests import Json
from mlx_host.testing.samples import TOOLS


def read(
    parser: type[Parser],
    pieces: Iterable[str],
    *,
    prompt_tail: str = "",
    tools: Sequence[Json] = TOOLS,
    reasoning: bool = True,
) -> list[list[Part]]:
    """Return what comes out after each piece, and at the end."""
    reading = parser(prompt_tail=prompt_tail, tools=tools, reasoning=reasoning)
    return [*map(reading.feed, pieces), reading.finish()]


def parts_of(parser: type[Parser], text: str, *, prompt_tail: str = "", reasoning: bool = True) -> list[Part]:
    """Return what comes out of the whole text."""
    fed = read(parser, [text], prompt_tail=prompt_tail, reasoning=reasoning)
    return [part for parts in fed for part in parts]
