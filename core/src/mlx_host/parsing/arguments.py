"""Validation and normalization of the names and arguments of calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NoReturn

_SPACE = " \t\n\r"
_SURROGATE = re.compile("[\ud800-\udfff]")
# A surrogate pair, an unpaired surrogate, or any other escape.
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<unpaired>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def is_json(text: str) -> bool:
    """Return whether `text` is strict JSON (no NaN) within Python's limits of nesting and integer length."""
    return _decode(text) is not _INVALID


def is_name(name: str) -> bool:
    return bool(name) and name == name.strip() and _is_unicode(name)


def normalize_arguments(raw: str) -> str | None:
    """Return the JSON text of an arguments object; None if `raw` is neither an object nor a JSON string of one.

    Empty text and null mean no arguments. The text of an object is returned unchanged, so numbers keep every digit.
    """
    raw = raw.strip()
    value = _decode(raw) if raw else None
    if isinstance(value, str):
        raw = value.strip()
        value = _decode(raw) if raw else None
    if value is None:
        return "{}"
    return raw if isinstance(value, dict) and _is_unicode(raw) else None


def json_call(raw: str, *, need_arguments: bool = False, id_key: str = "") -> tuple[str, str, str | None] | None:
    """Return name, arguments (unchanged JSON text) and id of a call as a JSON object; None if it is not a call."""
    members = object_members(raw)
    if "name" not in members and "function" in members:
        members = object_members(members["function"]) or {"name": members["function"], **members}
    name = _decode(members.get("name", ""))
    arguments = members.get("arguments", members.get("parameters"))
    if not isinstance(name, str) or (need_arguments and arguments is None):
        return None
    id = _decode(members.get(id_key, "null"))
    return name.strip(), arguments or "", id if isinstance(id, str) and _is_unicode(id) else None


def object_members(raw: str) -> dict[str, str]:
    """Return the JSON text of each member of a JSON object; empty if `raw` is not an object."""
    if not isinstance(_decode(raw), dict):
        return {}
    members: dict[str, str] = {}
    at = _skip(raw, raw.index("{") + 1)
    while raw[at] != "}":
        key, at = _DECODER.raw_decode(raw, at)
        start = _skip(raw, _skip(raw, at) + 1)
        _, end = _DECODER.raw_decode(raw, start)
        members[key] = raw[start:end]
        at = _skip(raw, end)
        if raw[at] == ",":
            at = _skip(raw, at + 1)
    return members


def json_object(members: Mapping[str, str]) -> str:
    """Return the JSON text of an object, given the JSON text of each member."""
    return "{" + ", ".join(f"{json_string(key)}: {value}" for key, value in members.items()) + "}"


def replace_surrogates(text: str) -> str:
    """Replace each unpaired surrogate, which UTF-8 cannot encode, by U+FFFD."""
    return text if _is_unicode(text) else _SURROGATE.sub("\ufffd", text)


def replace_escaped_surrogates(text: str) -> str:
    """Replace each unpaired surrogate in JSON text, escaped or not, by U+FFFD."""
    text = replace_surrogates(text)
    if "\\u" not in text:
        return text
    return _ESCAPE.sub(lambda found: "\\ufffd" if found["unpaired"] else found[0], text)


def json_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=not _is_unicode(text))


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


_INVALID = object()


def _decode(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _INVALID


def _is_unicode(text: str) -> bool:
    """Return False for lone surrogates, which JSON can escape but UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
