"""JSON schema's `pattern`, which is searched for anywhere in a string, as a regular expression of whole strings."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?<?[=!]|\(\?P=|[*+?}]\??|.", re.DOTALL)
_ASCII = {r"\d": "0-9", r"\w": "a-zA-Z0-9_"}
_UNSAYABLE = {"(?=", "(?!", "(?<=", "(?<!", "(?P=", "^", "$"}


def whole_regex(pattern: object) -> str | None:
    """None for what goes beyond a regular language, and for anchors that are not at either end.

    The result is of the kind that Python and llguidance read alike; `\\d` and `\\w` are ASCII, as in ECMA's.
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
    if any(token in _UNSAYABLE or re.fullmatch(r"\\[0-9bBAZzG]", token) for token in inner):
        return None
    written = "".join(map(_token, inner))
    return f"{'' if begins else '(?s:.*)'}(?:{written}){'' if ends else '(?s:.*)'}"


def _token(token: str) -> str:
    if token.startswith("["):
        return re.sub(r"\\.", lambda found: _ASCII.get(found[0], found[0]), token, flags=re.DOTALL)
    if token in _ASCII:
        return f"[{_ASCII[token]}]"
    # How long a part of a match is, makes no difference to the whole.
    return token[0] if len(token) == 2 and token[1] == "?" and token[0] in "*+?}" else token
