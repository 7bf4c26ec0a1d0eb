"""OpenAI's four formats of text input: a string, a list of strings, token ids, or a list of lists of token ids."""

from __future__ import annotations

from typing import Any


def read_inputs(value: Any) -> list[str] | list[list[int]]:
    """Return the input as a list of strings or of lists of token ids; ValueError names an invalid item."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise ValueError("must be a string, a list of strings, a list of token ids, or a list of lists of token ids")
    if not value:
        raise ValueError("the list is empty")
    if _are_tokens(value):
        return [value]
    for index, item in enumerate(value):
        if isinstance(item, list):
            if not item:
                raise ValueError(f"item {index} is empty")
            if not _are_tokens(item):
                raise ValueError(f"item {index} must be a list of token ids")
        elif not isinstance(item, str):
            raise ValueError(f"item {index} must be a string or a list of token ids")
        if type(item) is not type(value[0]):
            raise ValueError(f"strings and token ids cannot be mixed: item 0 and item {index} differ")
    return value


def _are_tokens(value: list[Any]) -> bool:
    return all(type(item) is int for item in value)
