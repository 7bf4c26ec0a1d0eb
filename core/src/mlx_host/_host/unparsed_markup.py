"""Sees calls and thinking that nobody read: what a wrong parser, or none, leaves in the content."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mlx_host.parsing import Parser
from mlx_host.parsing.detect import detect


class Telltales:
    """The strings that give away text of each family, and what to do about one that is left in an answer."""

    def __init__(self, families: Iterable[type[Parser]], template: str | None) -> None:
        self._families: dict[str, set[str]] = {}
        for family in families:
            for telltale in family.signatures:
                self._families.setdefault(telltale, set()).add(family.name)
        longest_first = sorted(self._families, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.reach = max(map(len, longest_first), default=1) - 1
        found = detect(template or "", families)
        self._called_for = found.parser.name if found else None

    def advice(self, telltale: str, reading: Iterable[type[Parser] | None]) -> str:
        """Write one sentence that names the parser to try, given the parsers that did read the answer."""
        names = self._families[telltale]
        present = {parser.name for parser in reading if parser is not None}
        if names & present:
            return f"the answer holds {telltale!r}, which parser {min(names & present)!r} could not read"
        if self._called_for in names:
            return f"the answer holds {telltale!r}; try --parser {self._called_for}, as the chat template suggests"
        return f"the answer holds {telltale!r}; try --parser {' or '.join(sorted(names))}"


class Leftovers:
    """Looks through the content of one choice as it comes, for the first telltale."""

    def __init__(self, telltales: Telltales) -> None:
        self._telltales = telltales
        self._tail = ""
        self.found: str | None = None

    def look(self, content: str) -> None:
        if self.found is not None:
            return
        text = self._tail + content
        if match := self._telltales.pattern.search(text):
            self.found = match.group()
        self._tail = text[-self._telltales.reach :] if self._telltales.reach else ""
