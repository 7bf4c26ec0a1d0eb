"""The result of one check, as text and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import rich_click as click

WIDTH = 80
_NAME_WIDTH = 15


class Status(Enum):
    """`ERROR`: something required is missing. `WARNING`: the server starts, but something is slow or unavailable."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


COLOURS: Mapping[Status, str] = {Status.OK: "green", Status.WARNING: "yellow", Status.ERROR: "red"}


@dataclass(frozen=True)
class Check:
    """What was checked, the finding in one sentence, what to do about it, and further values for the JSON report."""

    name: str
    status: Status
    message: str
    remedy: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def is_healthy(checks: Iterable[Check]) -> bool:
    """Whether nothing required is missing."""
    return all(check.status is not Status.ERROR for check in checks)


def report_text(checks: Iterable[Check]) -> str:
    """Format the checks for a terminal: the status, the name, the finding and, on separate lines, the remedy."""
    return "\n".join(line for check in checks for line in _lines(check))


def _lines(check: Check) -> list[str]:
    status = check.status.value
    head = f"{status:8}{check.name:{_NAME_WIDTH}}"
    first, *rest = _wrap(head + check.message, " " * len(head))
    lines = [click.style(status, fg=COLOURS[check.status]) + first[len(status) :], *rest]
    return lines + _wrap(f"{'':8}→ {check.remedy}" if check.remedy else "", " " * 10)


def _wrap(text: str, indent: str) -> list[str]:
    # Paths and commands are not broken, so that they can be copied.
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def report_json(version: str, checks: Sequence[Check]) -> str:
    """Format the checks for a bug report."""
    rows = [
        {
            "name": check.name,
            "status": check.status.value,
            "message": check.message,
            "remedy": check.remedy or None,
            "details": dict(check.details),
        }
        for check in checks
    ]
    return json.dumps({"mlx_host": version, "ok": is_healthy(checks), "checks": rows}, indent=2)
