"""Converts pydantic's validation errors to the wording of mlx-host's own error messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Reasons by pydantic's error type. Placeholders are values of the error's context.
REASONS = {
    "bool_parsing": "must be a boolean",
    "bool_type": "must be a boolean",
    "dict_type": "must be an object",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be an integer",
    "int_parsing": "must be an integer",
    "int_parsing_size": "must be an integer with fewer digits",
    "int_type": "must be an integer",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "path_type": "must be a path",
    "set_type": "must be a list",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_type": "must be a string",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "tuple_type": "must be a list",
}
# Error types whose value is shown even if values are private: their fields are numbers, booleans or enums.
SHOWN_STRINGS = ("_parsing", "_size", "literal_error", "int_type", "float_type", "bool_type")
MAX_SHOWN = 60
# Error types whose message includes the value, or which have no value.
WITHOUT_VALUE = ("missing", "value_error", "assertion_error")


def reason(errors: Sequence[Mapping[str, Any]], *, private: bool = False) -> str:
    """Return the reason of pydantic's errors for one field, as the predicate of a sentence about the field.

    There are several errors if the type of the field is a union. `private` omits values that may be text of a prompt.
    """
    requirement, *others = dict.fromkeys(_requirement(details) for details in errors)
    joined = " or ".join([requirement, *(other.removeprefix("must be ") for other in others)])
    shown = [_got(details, private) for details in errors if not _is_value_clear(details)]
    return f"{joined}, got {shown[0]}" if shown else joined


def _requirement(details: Mapping[str, Any]) -> str:
    message = str(details["msg"])
    if details["type"] in ("value_error", "assertion_error"):
        return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    context = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in details.get("ctx", {}).items()
    }
    if context.get("min_length") == 1:
        return "must not be empty"
    if details["type"] in REASONS:
        return REASONS[details["type"]].format(**context)
    return message[0].lower() + message[1:]


def field_path(path: Sequence[str | int]) -> str:
    """Return the path of a field as OpenAI writes it, such as `messages[0].content`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _is_value_clear(details: Mapping[str, Any]) -> bool:
    """Return whether the requirement already describes the value."""
    return details["type"] in WITHOUT_VALUE or details.get("ctx", {}).get("min_length") == 1


def _got(details: Mapping[str, Any], private: bool) -> str:
    """Return the invalid value, its length if that is invalid, or its type if the value is private."""
    value, kind = details["input"], details["type"]
    if kind in ("too_long", "too_short", "string_too_long", "string_too_short"):
        return str(len(value))
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if not private or isinstance(value, (int, float)) or (isinstance(value, str) and kind.endswith(SHOWN_STRINGS)):
        text = repr(str(value) if isinstance(value, Path) else value)
        return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, Sequence) else "another type"
