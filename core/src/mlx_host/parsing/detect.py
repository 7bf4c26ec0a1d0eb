"""Which family's parser a chat template calls for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlx_host.parsing.parser import Parser


@dataclass(frozen=True)
class Detected:
    """A parser and the strings of the template that speak for it."""

    parser: type[Parser]
    because: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.parser.name!r}, since the chat template holds {' and '.join(map(repr, self.because))}"


def detect(template: str, parsers: Iterable[type[Parser]]) -> Detected | None:
    """Choose the family whose strings the template holds; where several fit, the one that names the most of it.

    The names of markers in a template are what mlx-lm's `_infer_tool_parser` goes by, too.
    """
    fitting = [
        Detected(parser, strings)
        for parser in sorted(set(parsers), key=lambda parser: parser.name)
        for strings in parser.templates
        if all(string in template for string in strings)
    ]
    return max(fitting, key=lambda found: sum(map(len, found.because)), default=None)
