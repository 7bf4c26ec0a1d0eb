"""Validation and normalization of the names and arguments of calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

_SPACE = " \t\n\r"
_SURROGATE = re.compile("[\ud800-\udfff]")
# A surrogate pair, an unpaired surrogate, or any other escape.
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<unpaired>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
# The keys under which models write arguments. The first two have no other meaning.
_ARGUMENT_ALIASES = ("input", "args", "params")
_ARGUMENT_KEYS = ("arguments", "parameters", *_ARGUMENT_ALIASES)
# Other members of a call, which are not arguments.
_CALL_KEYS = ("function", "type", "id", "call_id", "tool_call_id", "index")


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


def json_call(
    raw: str,
    parameters: Callable[[str], Collection[str] | None] = lambda name: None,
    *,
    need_arguments: bool = False,
    id_key: str = "",
) -> tuple[str, str, str | None] | None:
    """Return name, arguments (unchanged JSON text) and id of a call as a JSON object; None if it is not a call.

    `parameters` returns the names of a function's parameters, None if the function is unknown. Models write the
    arguments under one of several keys, or next to the name; the latter are arguments only if the function has
    parameters of all these names.
    """
    members = object_members(raw)
    if "name" not in members and "function" in members:
        members = object_members(members["function"]) or {"name": members["function"], **members}
    name = _decode(members.pop("name", ""))
    if not isinstance(name, str):
        return None
    name = name.strip()
    id = _decode(members.get(id_key, "null"))
    arguments = _arguments(members, parameters(name), {*_CALL_KEYS, id_key})
    if arguments is None or (need_arguments and not arguments):
        return None
    return name, arguments, id if isinstance(id, str) and _is_unicode(id) else None


def _arguments(members: Mapping[str, str], declared: Collection[str] | None, call_keys: Collection[str]) -> str | None:
    """Return the arguments among the members of a call; "" if it has none, None if it is not a call."""
    parameters = declared or ()
    others = {key: value for key, value in members.items() if key in parameters or key not in call_keys}
    key = next((key for key in _ARGUMENT_KEYS if key in members), None)
    if key is None:
        if others and not others.keys() <= set(parameters):
            return None
        return json_object(others) if others else ""
    value = members[key]
    beside = {other: text for other, text in others.items() if other not in _ARGUMENT_KEYS or other in parameters}
    if key in _ARGUMENT_ALIASES and key in parameters and beside.keys() <= set(parameters):
        # The function has a parameter of this name: `{"name": "ask", "input": "…"}`.
        nested = object_members(normalize_arguments(value) or "")
        if not nested or not nested.keys() <= set(parameters):
            return json_object(beside)
    beside.pop(key, None)
    if beside and beside.keys() <= set(parameters) and normalize_arguments(value) == "{}":
        return json_object(beside)
    return value


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
