"""Detects tool-call and reasoning markup in the content of a response: the model has no parser, or a wrong one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mlx_host.parsing import Parser
from mlx_host.parsing.detect import detect


class MarkupSignatures:
    """The strings that identify the markup of each parser's family, as one regex.

    `max_prefix` is the length of the longest proper prefix of a signature. `template` is the model's chat template.
    """

    def __init__(self, parsers: Iterable[type[Parser]], template: str | None) -> None:
        self._parsers: dict[str, set[str]] = {}
        for parser in parsers:
            for signature in parser.signatures:
                self._parsers.setdefault(signature, set()).add(parser.name)
        longest_first = sorted(self._parsers, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.max_prefix = max(map(len, longest_first), default=1) - 1
        detected = detect(template or "", parsers)
        self._detected = detected.parser.name if detected else None

    def suggestion(self, signature: str, used: Iterable[type[Parser] | None]) -> str:
        """Return a warning that names the parser to try; `used` are the parsers that processed the output."""
        candidates = self._parsers[signature]
        failed = candidates & {parser.name for parser in used if parser is not None}
        if failed:
            return f"the output contains markup {signature!r} that parser {min(failed)!r} could not parse"
        if self._detected in candidates:
            return (
                f"the output contains unparsed markup {signature!r}; try --parser {self._detected}, "
                "which matches the chat template"
            )
        return f"the output contains unparsed markup {signature!r}; try --parser {' or '.join(sorted(candidates))}"


class UnparsedMarkupDetector:
    """Searches the content of one choice, in chunks of any size, for the first signature."""

    def __init__(self, signatures: MarkupSignatures) -> None:
        self._signatures = signatures
        self._tail = ""
        self.found: str | None = None

    def feed(self, content: str) -> None:
        """Search one chunk together with the end of the previous ones."""
        if self.found is not None:
            return
        text = self._tail + content
        if match := self._signatures.pattern.search(text):
            self.found = match.group()
        length = self._signatures.max_prefix
        self._tail = text[-length:] if length else ""
