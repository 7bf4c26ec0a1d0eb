"""Converts JSON Schema's `pattern`, which may match anywhere in a string, to a regex for whole strings."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?<?[=!]|\(\?P=|[*+?}]\??|.", re.DOTALL)
_ASCII = {r"\d": "0-9", r"\w": "a-zA-Z0-9_"}
_UNSUPPORTED = {"(?=", "(?!", "(?<=", "(?<!", "(?P=", "^", "$"}


def whole_regex(pattern: object) -> str | None:
    """Return a regex that matches whole strings; None for lookarounds, backreferences and anchors inside the pattern.

    Python and llguidance interpret the result alike; `\\d` and `\\w` are ASCII, as in ECMA 262.
    """
    if not isinstance(pattern, str):
        return None
    try:
        re.compile(pattern)
    except re.error:
        return None
    alternatives: list[list[str]] = [[]]
    depth = 0
    for token in _TOKEN.findall(pattern):
        depth += token.startswith("(") - (token == ")")
        if token == "|" and not depth:
            alternatives.append([])
        else:
            alternatives[-1].append(token)
    wholes = [_whole(tokens) for tokens in alternatives]
    return "|".join(whole for whole in wholes if whole is not None) if None not in wholes else None


def _whole(tokens: list[str]) -> str | None:
    begins = tokens[:1] == ["^"]
    ends = tokens[-1:] == ["$"]
    inner = tokens[begins : len(tokens) - ends]
    if any(token in _UNSUPPORTED or re.fullmatch(r"\\[0-9bBAZzG]", token) for token in inner):
        return None
    written = "".join(map(_token, inner))
    return f"{'' if begins else '(?s:.*)'}(?:{written}){'' if ends else '(?s:.*)'}"


def _token(token: str) -> str:
    if token.startswith("["):
        return re.sub(r"\\.", lambda found: _ASCII.get(found[0], found[0]), token, flags=re.DOTALL)
    if token in _ASCII:
        return f"[{_ASCII[token]}]"
    # Lazy quantifiers: the length of a part does not affect whether the whole matches.
    return token[0] if len(token) == 2 and token[1] == "?" and token[0] in "*+?}" else token
