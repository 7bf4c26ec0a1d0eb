"""Suggestions for misspelt names."""

from __future__ import annotations

import pytest
from mlx_host._cli import discover
from mlx_host._settings import closest, edit_distance
from mlx_host.errors import UsageError


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("port", "port", 0),
        ("prot", "port", 1),
        ("pot", "port", 1),
        ("ports", "port", 1),
        ("sort", "port", 1),
        ("kitten", "sitting", 3),
        ("ca", "abc", 3),
    ],
)
def test_edit_distance(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == distance


def test_the_name_with_the_fewest_edits_is_suggested() -> None:
    assert closest("temprature", ["parser", "temperature", "temperature_file"]) == "temperature"
    assert closest("modle", ["module", "model", "models"]) == "model"
    assert closest("zzz", ["port", "model"]) is None
    assert closest("x", []) is None


def test_a_canonical_name_is_preferred_to_an_alias() -> None:
    assert closest("qwen4", ["qwen2", "qwen3"], preferred=["qwen3"]) == "qwen3"
    assert closest("deepseek", ["deepseekv4", "deepseek_v4"], preferred=["deepseek_v4"]) == "deepseek_v4"
    assert closest("qwen22", ["qwen2", "hermes"], preferred=["hermes"]) == "qwen2"


@pytest.mark.parametrize(
    ("name", "suggestion"), [("qwen33", "qwen3"), ("deepseek", "deepseek_r1"), ("mistrl", "mistral")]
)
def test_an_unknown_parser_suggests_a_family(name: str, suggestion: str) -> None:
    with pytest.raises(UsageError) as raised:
        discover().parser(name)
    assert f"Did you mean {suggestion!r}?" in str(raised.value)
