"""Removes what a bug report must not contain: home directories, user names and keys."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_host._cli.doctor.check import Check

# Tokens of the Hugging Face hub and of OpenAI's style, and credentials in a URL.
SECRETS = re.compile(r"\bhf_\w{8,}|\bsk-[\w-]{8,}|(?<=://)[^/\s@]+@")
SECRET_VARIABLES = re.compile(r"TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)
# Shorter values of variables, such as "1", are not keys.
MIN_SECRET = 6


def redacted(check: Check) -> Check:
    """Return the check without private values."""
    return replace(
        check, message=redact(check.message), remedy=redact(check.remedy), details=_redact_value(check.details)
    )


def redact(text: str) -> str:
    """Replace home directories by `~`, the user's name by `USER`, and keys by `***`."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    text = SECRETS.sub("***", text)
    for home in sorted(_homes(), key=len, reverse=True):
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    user = _user()
    return re.sub(rf"(?<![\w.-]){re.escape(user)}(?![\w.-])", "USER", text) if user else text


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _redact_value(each) for key, each in value.items()}
    return [_redact_value(each) for each in value] if isinstance(value, list | tuple) else value


def _secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if SECRET_VARIABLES.search(name) and len(value) >= MIN_SECRET and not os.path.exists(value):
            yield value


def _homes() -> set[str]:
    home = Path.home()
    return {str(home), str(home.resolve())} - {"/"}


def _user() -> str | None:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # In a container, the user may have no name.
        return None
    # The usual user of containers, whose name reveals nothing.
    return None if user == "root" else user
