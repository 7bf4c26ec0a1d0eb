"""Removes lines from system prompts that clients change in every request.

The prefix cache reuses a prompt up to the first difference, and the system prompt comes first: nothing after a changed
line could be reused. The removed lines do not contain instructions for the model.
"""

from __future__ import annotations

import re

CHANGING_LINES = re.compile(
    r"""
    ^(?:
        # The first block of Claude Code, with a version and a checksum of the request.
        x-[a-z-]+-billing-header: .*
        # The number of tokens used or remaining in the context, added by coding agents in a tag.
        | <(?P<tag>system[_-]\w+)>
          token[ ]usage: [ ]*[\d,]+[ ]*/[ ]*[\d,]+ (?:;[ ]*[\d,]+[ ]remaining)?
          </(?P=tag)>
        | <(?P<left>total_tokens|tokens_left)> [^<\n]* </(?P=left)>
    )[ ]*(?:\n|\Z)
    # The same without a tag, if it is the whole text: elsewhere it may be an example.
    | \A token[ ]usage: [ ]*[\d,]+[ ]*/[ ]*[\d,]+ (?:;[ ]*[\d,]+[ ]remaining)? \s*\Z
    """,
    re.MULTILINE | re.IGNORECASE | re.VERBOSE,
)


# The entry in the header of ignored fields.
REMOVED = "system.changing_lines"


class SystemPromptNormalizer:
    """Normalizes the system prompts of one request, if `enabled`; `ignored` lists what was removed."""

    def __init__(self, enabled: bool = True) -> None:
        self.ignored: list[str] = []
        self._enabled = enabled

    def __call__(self, text: str) -> str:
        """Return a system prompt without the lines that change in every request."""
        normalized = CHANGING_LINES.sub("", text) if self._enabled else text
        if normalized != text:
            self.ignored = [REMOVED]
        return normalized
