"""Detects tool-call and reasoning markup in the content of a response, a sign that the parser is missing or wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from mlx_host.parsing import Parser
from mlx_host.parsing.detect import detect

# A call as a JSON object, and as a list of Python calls.
_CALL = re.compile(r'"name"\s{0,4}:\s{0,4}"([^"\\]{1,64})"|(?:^|\n)\[([\w.-]{1,64})\(')
# The maximum length of a match.
_MAX_CALL = 96


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
        self._bare_calls = {parser.name for parser in parsers if parser.bare_calls}
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

    def call_suggestion(self, function: str, used: Iterable[type[Parser] | None]) -> str:
        """Return a warning about a call without markup that names the parsers for such calls."""
        warning = f"the output contains a call to {function!r} without tool-call markup"
        if failed := self._bare_calls & {parser.name for parser in used if parser is not None}:
            return f"{warning}, in a form that the parser {min(failed)!r} does not support"
        return f"{warning}; try --parser {' or '.join(sorted(self._bare_calls))}" if self._bare_calls else warning


class UnparsedMarkupDetector:
    """Searches the content of one choice, in chunks of any size, for the first signature.

    `call` is the first of `tool_names` that the content calls without markup.
    """

    def __init__(self, signatures: MarkupSignatures, tool_names: Collection[str] = ()) -> None:
        self._signatures = signatures
        self._tool_names = tool_names
        self._tail_length = max(signatures.max_prefix, _MAX_CALL if tool_names else 0)
        self._tail = ""
        self.found: str | None = None
        self.call: str | None = None

    def feed(self, content: str) -> None:
        """Search one chunk together with the end of the previous ones."""
        if self.found is not None:
            return
        text = self._tail + content
        if match := self._signatures.pattern.search(text):
            self.found = match.group()
        if self._tool_names and self.call is None:
            names = (name for groups in _CALL.findall(text) for name in groups)
            self.call = next((name for name in names if name in self._tool_names), None)
        self._tail = text[-self._tail_length :] if self._tail_length else ""
