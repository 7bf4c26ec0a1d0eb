"""Removes lines from system prompts that clients change in every request.

The prefix cache reuses a prompt up to the first difference, and the system prompt comes first: with a changing counter
in it, nothing after the counter can be reused. The removed lines tell a model nothing about its task.
"""

from __future__ import annotations

import re

CHANGING_LINES = re.compile(
    r"""
    ^(?:
        # Claude Code's first block: a version and a checksum of the request.
        x-[a-z-]+-billing-header: .*
        # How much of the context is used, as agents report it.
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
