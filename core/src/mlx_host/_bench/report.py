"""Turns measured points into numbers, the numbers into JSON or a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from mlx_host._bench.client import Point
from mlx_host._bench.runner import Session

_TIMES = {
    "time_to_first_token": "first token\np50/p95 ms",
    "time_per_token": "per token\np50/p95 ms",
    "gap_between_chunks": "chunk gap\np50/p95 ms",
}


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Interpolated between the two nearest values; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def point_json(point: Point) -> dict[str, Any]:
    """The numbers of one point; times are seconds, and what nothing was measured for is None."""
    answers = point.answers
    completion_tokens = sum(answer.completion_tokens for answer in answers)
    return {
        "concurrency": point.concurrency,
        "requests": point.requests,
        "completed": len(answers),
        "failed": len(point.failures),
        "failures": [
            {"reason": reason, "count": count}
            for reason, count in Counter(failure.reason for failure in point.failures).most_common()
        ],
        "seconds": point.seconds,
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "completion_tokens": completion_tokens,
        "tokens_per_second": completion_tokens / point.seconds,
        "requests_per_second": len(answers) / point.seconds,
        "time_to_first_token": _spread([answer.time_to_first_token for answer in answers]),
        "time_per_token": _spread([time for answer in answers if (time := answer.time_per_token) is not None]),
        "gap_between_chunks": _spread([gap for answer in answers for gap in answer.gaps]),
    }


def report_json(session: Session) -> dict[str, Any]:
    """All that `--json` prints."""
    return {
        "url": session.url,
        "model": session.workload.model,
        "max_tokens": session.workload.max_tokens,
        "prompt_tokens": session.workload.prompt_tokens,
        "points": [point_json(point) for point in session.points],
    }


def report_table(report: dict[str, Any]) -> Table:
    """The table for a terminal; `report` is what report_json gives."""
    table = Table(
        "at\nonce", "ok/\nfailed", *_TIMES.values(), "tokens\n/s", "requests\n/s",
        title=Text(f"{report['model']} at {report['url']}"),
        caption=_caption(report),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for column in table.columns:
        column.no_wrap = True
        column.justify = "right"
    for point in report["points"]:
        table.add_row(
            str(point["concurrency"]),
            f"{point['completed']}/{point['failed']}",
            *(f"{_milliseconds(point[key]['p50'])}/{_milliseconds(point[key]['p95'])}" for key in _TIMES),
            f"{point['tokens_per_second']:.1f}",
            f"{point['requests_per_second']:.2f}",
            style="red" if point["failed"] else None,
        )
    return table


def _caption(report: dict[str, Any]) -> Text:
    prompt_tokens = sum(point["prompt_tokens"] for point in report["points"])
    completion_tokens = sum(point["completion_tokens"] for point in report["points"])
    completed = sum(point["completed"] for point in report["points"])
    lines = []
    if completed:
        lines.append(
            f"On average {prompt_tokens / completed:.0f} prompt tokens and {completion_tokens / completed:.0f} "
            f"completion tokens a request (at most {report['max_tokens']})."
        )
    lines += [
        f"Failed at {point['concurrency']} at once, {failure['count']} of {point['requests']}: {failure['reason']}"
        for point in report["points"]
        for failure in point["failures"]
    ]
    return Text("\n".join(lines))


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 50), "p95": percentile(values, 95)}


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f}"
