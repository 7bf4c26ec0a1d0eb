from __future__ import annotations

import re

import pytest
from mlx_host._bench.client import ConcurrencyResult, Workload
from mlx_host._bench.report import concurrency_json, percentile, report_json, report_table
from mlx_host._bench.result import RequestFailure, RequestResult
from mlx_host._bench.runner import BenchResult
from rich.console import Console

FAST = RequestResult(sent=0, ended=2.1, chunk_times=(0.5, 1.0, 2.0), prompt_tokens=10, completion_tokens=4)
SLOW = RequestResult(sent=1, ended=4.0, chunk_times=(2.5, 4.0), prompt_tokens=20, completion_tokens=2)
POINT = ConcurrencyResult(
    2, 5, seconds=4.0, completed=(FAST, SLOW), failed=(RequestFailure("x"), RequestFailure("y"), RequestFailure("x"))
)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3, 1, 2], 50, 2), ([1, 2], 50, 1.5), ([1, 2, 3, 4, 5], 95, 4.8), ([7], 95, 7), ([], 50, None), ([1, 2], 100, 2)],
)
def test_percentiles_interpolate(values: list[float], percent: float, expected: float | None) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


def test_the_numbers_of_a_point() -> None:
    numbers = concurrency_json(POINT)
    assert numbers == {
        "concurrency": 2,
        "requests": 5,
        "completed": 2,
        "failed": 3,
        "failures": [{"reason": "x", "count": 2}, {"reason": "y", "count": 1}],
        "seconds": 4.0,
        "prompt_tokens": 30,
        "completion_tokens": 6,
        "tokens_per_second": 1.5,
        "requests_per_second": 0.5,
        "time_to_first_token": {"p50": 1.0, "p95": pytest.approx(1.45)},
        "time_per_token": {"p50": 1.0, "p95": pytest.approx(1.45)},
        "gap_between_chunks": {"p50": 1.0, "p95": pytest.approx(1.45)},
    }


def test_a_point_without_results_has_no_times() -> None:
    numbers = concurrency_json(ConcurrencyResult(1, 1, seconds=1.0, completed=(), failed=(RequestFailure("x"),)))
    assert numbers["tokens_per_second"] == 0
    assert numbers["time_to_first_token"] == {"p50": None, "p95": None}


def test_the_table_shows_numbers_and_failures() -> None:
    session = BenchResult("http://127.0.0.1:8000/v1", Workload("tiny", 16, 20), [POINT])
    console = Console(width=80)
    with console.capture() as capture:
        console.print(report_table(report_json(session)))
    shown = capture.get()
    assert "tiny at http://127.0.0.1:8000/v1" in shown
    assert "At concurrency 2, 2 of 5 requests failed: x" in shown
    assert "At concurrency 2, 1 of 5 requests failed: y" in shown
    assert "On average 15 prompt tokens and 3 completion tokens per request" in shown
    row = next(line for line in shown.splitlines() if "1.5" in line)
    times = ["1000/1450"] * 3
    assert re.split(r"\s{2,}", row.strip()) == ["2", "2/3", *times, "1.5", "0.50"]
