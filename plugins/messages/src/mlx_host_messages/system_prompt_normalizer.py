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
        # The number of tokens used or remaining in the context, added by coding agents.
        | (?:<(?P<tag>system[_-]\w+)>)?
          token[ ]usage: [ ]*[\d,]+[ ]*/[ ]*[\d,]+ (?:;[ ]*[\d,]+[ ]remaining)?
          (?(tag)</(?P=tag)>)
        | <(?P<left>total_tokens|tokens_left)> [^<\n]* </(?P=left)>
    )[ ]*(?:\n|\Z)
    """,
    re.MULTILINE | re.IGNORECASE | re.VERBOSE,
)


def normalize_system_prompt(text: str) -> str:
    """Return a system prompt without the lines that change in every request."""
    return CHANGING_LINES.sub("", text)
