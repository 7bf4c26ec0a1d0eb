"""Detection of the parser family from a chat template."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlx_host.parsing.parser import Parser


@dataclass(frozen=True)
class Detected:
    """A parser and the strings in the template that identify it."""

    parser: type[Parser]
    matched: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.parser.name!r} (the chat template contains {' and '.join(map(repr, self.matched))})"


def detect(template: str, parsers: Iterable[type[Parser]]) -> Detected | None:
    """Return the family whose `template_signatures` the template contains, or None.

    If several match, the one whose strings are longest in total wins. mlx-lm's `_infer_tool_parser` also searches
    templates for markers.
    """
    matches = [
        Detected(parser, strings)
        for parser in sorted(set(parsers), key=lambda parser: parser.name)
        for strings in parser.template_signatures
        if all(string in template for string in strings)
    ]
    return max(matches, key=lambda found: sum(map(len, found.matched)), default=None)
