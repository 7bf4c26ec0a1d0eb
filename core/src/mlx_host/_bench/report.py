"""Formats benchmark results as JSON or as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from mlx_host._bench.client import ConcurrencyResult
from mlx_host._bench.runner import BenchResult

_TIMES = {
    "time_to_first_token": "TTFT\np50/p95 ms",
    "time_per_token": "TPOT\np50/p95 ms",
    "gap_between_chunks": "ITL\np50/p95 ms",
}


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return a percentile, interpolated between the two nearest values; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def concurrency_json(result: ConcurrencyResult) -> dict[str, Any]:
    """Return the results of one concurrency as JSON values.

    Times are in seconds. Percentiles are None if there are no values.
    """
    completed = result.completed
    completion_tokens = sum(request.completion_tokens for request in completed)
    return {
        "concurrency": result.concurrency,
        "requests": result.requests,
        "completed": len(completed),
        "failed": len(result.failed),
        "failures": [
            {"reason": reason, "count": count}
            for reason, count in Counter(failure.reason for failure in result.failed).most_common()
        ],
        "seconds": result.seconds,
        "prompt_tokens": sum(request.prompt_tokens for request in completed),
        "completion_tokens": completion_tokens,
        "tokens_per_second": completion_tokens / result.seconds,
        "requests_per_second": len(completed) / result.seconds,
        "time_to_first_token": _percentiles([request.time_to_first_token for request in completed]),
        "time_per_token": _percentiles([time for request in completed if (time := request.time_per_token) is not None]),
        "gap_between_chunks": _percentiles([gap for request in completed for gap in request.chunk_gaps]),
    }


def report_json(result: BenchResult) -> dict[str, Any]:
    """Return the output of `--json`."""
    return {
        "url": result.url,
        "model": result.workload.model,
        "max_tokens": result.workload.max_tokens,
        "prompt_tokens": result.workload.prompt_tokens,
        "points": [concurrency_json(measured) for measured in result.results],
    }


def report_table(report: dict[str, Any]) -> Table:
    """Format the return value of `report_json` as a table."""
    table = Table(
        "concur-\nrency", "ok/\nfailed", *_TIMES.values(), "tokens\n/s", "requests\n/s",
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
            f"completion tokens per request (at most {report['max_tokens']})."
        )
    lines += [
        f"At concurrency {point['concurrency']}, {failure['count']} of {point['requests']} requests failed: "
        f"{failure['reason']}"
        for point in report["points"]
        for failure in point["failures"]
    ]
    lines.append(
        "TTFT: time to first token. TPOT: time per output token after the first. "
        "ITL: inter-token latency, the time between chunks."
    )
    return Text("\n".join(lines))


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 50), "p95": percentile(values, 95)}


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f}"
