"""Draws the plots of docs/benchmarks.md from benchmarks/results.json: `uv run python -m benchmarks.plots`.

results.json has the published numbers: "comparison" has the rows that `benchmarks.compare --json` writes, without the
single rounds, and "structured_output" the table of `benchmarks.structured`. A test compares the tables of the page and
the plots with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
TARGET = ROOT / "docs" / "assets"
COLORS = ("#9aa3b2", "#3f6fd8", "#e0963a")
CONTENDERS = ("engine directly", "mlx-host", "mlx_lm.server")
WIDTH, HEIGHT = 840, 300
BASE, TOP = 240, 76
"""The y coordinates of a bar's lower end and of the upper end of the highest bar."""


@dataclass(frozen=True)
class Panel:
    """Grouped bars with a common scale: `values` has a row for each group and a column for each series."""

    title: str
    groups: Sequence[str]
    values: Sequence[Sequence[float]]


def bar_chart(title: str, series: Sequence[str], panels: Sequence[Panel], label: Callable[[float], str]) -> str:
    """Return an SVG with panels side by side and the value of each bar above it."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" '
        'font-size="13" fill="#1c2330" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#fff"/>',
        f'<text x="20" y="28" font-size="16" font-weight="600">{escape(title)}</text>',
    ]
    legend = WIDTH - 20 - 140 * len(series)
    for number, name in enumerate(series):
        x = legend + 140 * number
        lines.append(f'<rect x="{x}" y="17" width="14" height="14" rx="3" fill="{COLORS[number]}"/>')
        lines.append(f'<text x="{x + 20}" y="29">{escape(name)}</text>')
    width = (WIDTH - 20) / len(panels)
    for number, panel in enumerate(panels):
        lines += _panel(panel, 20 + number * width, width - 20, label)
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, left: float, width: float, label: Callable[[float], str]) -> list[str]:
    lines = [f'<path d="M{left:.0f} {BASE}H{left + width:.0f}" stroke="#8a919e"/>']
    highest = max(value for row in panel.values for value in row)
    group_width = width / len(panel.groups)
    for group, (name, row) in enumerate(zip(panel.groups, panel.values, strict=True)):
        bar = group_width * 0.84 / len(row)
        start = left + group * group_width + group_width * 0.08
        for number, value in enumerate(row):
            x, height = start + number * bar, (BASE - TOP) * value / highest
            lines.append(
                f'<rect x="{x + 2:.1f}" y="{BASE - height:.1f}" width="{bar - 4:.1f}" height="{height:.1f}" '
                f'rx="2" fill="{COLORS[number]}"/>'
            )
            lines.append(
                f'<text x="{x + bar / 2:.1f}" y="{BASE - height - 6:.1f}" text-anchor="middle">{label(value)}</text>'
            )
        center = left + (group + 0.5) * group_width
        lines.append(f'<text x="{center:.1f}" y="{BASE + 18}" text-anchor="middle">{escape(name)}</text>')
    lines.append(
        f'<text x="{left + width / 2:.1f}" y="{BASE + 42}" text-anchor="middle" font-weight="600">'
        f"{escape(panel.title)}</text>"
    )
    return lines


def comparison_panels(rows: Sequence[dict[str, Any]], field: str, scale: float = 1) -> list[Panel]:
    """Return a panel for each model, with a group for each concurrency."""
    values = {(row["model"], row["concurrency"], row["contender"]): row[field] * scale for row in rows}
    concurrencies = sorted({row["concurrency"] for row in rows})
    return [
        Panel(
            model,
            [_requests(number) for number in concurrencies],
            [[values[model, number, contender] for contender in CONTENDERS] for number in concurrencies],
        )
        for model in dict.fromkeys(row["model"] for row in rows)
    ]


def _requests(concurrency: int) -> str:
    return "1 request" if concurrency == 1 else f"{concurrency} requests"


def plots(results: dict[str, Any]) -> dict[str, str]:
    """Return the SVG of each plot by file name."""
    comparison, structured = results["comparison"], results["structured_output"]
    return {
        "throughput.svg": bar_chart(
            "Output tokens per second",
            CONTENDERS,
            comparison_panels(comparison, "tokens_per_second"),
            "{:.0f}".format,
        ),
        "first-token.svg": bar_chart(
            "Time to first token (ms, median)",
            CONTENDERS,
            comparison_panels(comparison, "time_to_first_token", scale=1000),
            "{:.0f}".format,
        ),
        "structured-output.svg": bar_chart(
            "Output tokens per second",
            ("unconstrained", "JSON schema"),
            [
                Panel(
                    model,
                    [_requests(row["concurrency"]) for row in structured if row["model"] == model],
                    [[row["unconstrained"], row["constrained"]] for row in structured if row["model"] == model],
                )
                for model in dict.fromkeys(row["model"] for row in structured)
            ],
            "{:.1f}".format,
        ),
    }


def main() -> None:
    """Write the plots."""
    for name, svg in plots(json.loads(RESULTS.read_text(encoding="utf-8"))).items():
        (TARGET / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
