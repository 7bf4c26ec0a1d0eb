from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx_host_text.pooling import normalize, pool, to_bytes

STATES = np.array([[[1.0, -5.0], [2.0, -4.0], [6.0, -1.0], [np.nan, np.inf]]], np.float32)
MASK = np.array([[True, True, True, False]])
POOLED = {
    "cls": [1.0, -5.0],
    "max": [6.0, -1.0],
    "mean": [3.0, -10 / 3],
    "mean_sqrt_len_tokens": [9 / 3**0.5, -10 / 3**0.5],
    "weightedmean": [23 / 6, -16 / 6],
    "lasttoken": [6.0, -1.0],
}


@pytest.mark.parametrize(("mode", "expected"), POOLED.items())
def test_each_mode_ignores_padding(mode: str, expected: list[float]) -> None:
    pooled = np.array(pool(mx.array(STATES), mx.array(MASK), [mode]))
    np.testing.assert_allclose(pooled, [expected], rtol=1e-6)


def test_skipped_prompt_tokens_are_not_pooled() -> None:
    mask = mx.array([[False, True, True, False]])
    assert np.array(pool(mx.array(STATES), mask, ["cls"])).tolist() == [[2.0, -4.0]]
    assert np.array(pool(mx.array(STATES), mask, ["mean"])).tolist() == [[4.0, -2.5]]


def test_several_modes_are_concatenated() -> None:
    pooled = np.array(pool(mx.array(STATES), mx.array(MASK), ["cls", "max"]))
    assert pooled.tolist() == [[1.0, -5.0, 6.0, -1.0]]


def test_vectors_that_are_not_finite_have_no_bytes() -> None:
    zeros, broken, vector = to_bytes(normalize(mx.array([[0.0, 0.0], [np.nan, 1.0], [3.0, 4.0]])))
    assert (zeros, broken) == (bytes(8), None)
    assert vector is not None
    np.testing.assert_allclose(np.frombuffer(vector, "<f4"), [0.6, 0.8], rtol=1e-6)
