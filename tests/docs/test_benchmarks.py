"""docs/benchmarks.md shows the numbers of benchmarks/results.json, in its tables and in its plots."""

from __future__ import annotations

import json

import pytest

from benchmarks import plots
from tests.docs.blocks import ROOT
from tests.docs.test_reference import rows

PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
RESULTS = json.loads(plots.RESULTS.read_text(encoding="utf-8"))
MODELS = {row["model"] for row in RESULTS["comparison"]}


def test_the_comparison_table_has_the_results() -> None:
    shown = [row for row in rows(PAGE) if len(row) == 8 and row[0] in MODELS]
    assert shown == [
        [
            row["model"],
            str(row["concurrency"]),
            row["contender"],
            f"{row['tokens_per_second']:.0f}",
            f"{row['ratio_to_engine']:.0%}",
            f"{row['time_to_first_token'] * 1000:.0f} ms",
            f"{row['completion_tokens']:.0f}",
            str(row["failed"]),
        ]
        for row in RESULTS["comparison"]
    ]


def test_the_structured_output_table_has_the_results() -> None:
    shown = [row for row in rows(PAGE) if len(row) == 5 and row[0] in MODELS]
    assert shown == [
        [
            row["model"],
            str(row["concurrency"]),
            f"{row['unconstrained']:.1f}",
            f"{row['constrained']:.1f}",
            f"{row['ratio']:.2f}",
        ]
        for row in RESULTS["structured_output"]
    ]


@pytest.mark.parametrize("name", plots.plots(RESULTS))
def test_a_plot_is_drawn_from_the_results_and_shown(name: str) -> None:
    written = (plots.TARGET / name).read_text(encoding="utf-8")
    assert written == plots.plots(RESULTS)[name], "run `uv run python -m benchmarks.plots`"
    assert f"(assets/{name})" in PAGE


def test_bars_are_proportional_to_their_values() -> None:
    svg = plots.bar_chart("title", ("a", "b"), [plots.Panel("panel", ["group"], [[1, 4]])], "{:.0f}".format)
    full = plots.BASE - plots.TOP
    assert f'height="{full:.1f}"' in svg
    assert f'height="{full / 4:.1f}"' in svg
