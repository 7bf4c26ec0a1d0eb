"""Markdown for generated pages: tables and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; `<` and `|` in cells are escaped."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *(list(map(escaped, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Escape `<` and `|` outside code spans; inside them, Python-Markdown takes both literally."""
    return "".join(
        part if part.startswith("`") else part.replace("<", "&lt;").replace("|", "\\|")
        for part in re.split("(`[^`]*`)", text)
    )


def text_of(thing: object) -> str:
    """Return a docstring without indentation; a class does not inherit one."""
    if inspect.isclass(thing):
        return inspect.cleandoc(thing.__doc__ or "")
    return inspect.getdoc(thing) or ""
