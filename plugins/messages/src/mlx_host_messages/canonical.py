"""Brings system prompts that clients make unique on every turn to one form, so that the prompt cache knows them again.

A prompt can be reused as far as it is the same from its beginning on, and the system prompt is its beginning: one
counter in it that counts on, and nothing behind it can be reused. What is left out here tells a model nothing about
its task.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mlx_host.errors import UsageError

VARIABLE = "MLX_HOST_MESSAGES_CANONICAL"
SETTINGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

UNIQUE = re.compile(
    r"""
    ^(?:
        # Claude Code's first block: a version and a checksum of the request.
        x-[a-z-]+-billing-header: .*
        # How much of the context is used up, as agents tell it.
        | (?:<(?P<tag>system[_-]\w+)>)?
          token[ ]usage: [ ]*[\d,]+[ ]*/[ ]*[\d,]+ (?:;[ ]*[\d,]+[ ]remaining)?
          (?(tag)</(?P=tag)>)
        | <(?P<left>total_tokens|tokens_left)> [^<\n]* </(?P=left)>
    )[ ]*(?:\n|\Z)
    """,
    re.MULTILINE | re.IGNORECASE | re.VERBOSE,
)
"""Whole lines that differ from one request of a conversation to the next."""


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether prompts are to be changed; UsageError where the variable is neither true nor false."""
    value = environment.get(VARIABLE, "true")
    if value.lower() not in SETTINGS:
        raise UsageError(f"{VARIABLE} is {value!r}; set it to true or false.")
    return SETTINGS[value.lower()]


def canonical(text: str) -> str:
    """Leave out the lines of a system prompt that a client made unique."""
    return UNIQUE.sub("", text)
