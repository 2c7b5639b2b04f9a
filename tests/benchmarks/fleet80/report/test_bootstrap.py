from statistics import NormalDist

import numpy as np
import pytest

from benchmarks.fleet80.report.bootstrap import paired_difference


def scores(*rows: list[float]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(rows, dtype=np.float64)


def test_equal_models_differ_by_nothing() -> None:
    same = np.random.default_rng(0).integers(0, 2, (2, 50)).astype(np.float64)
    found = paired_difference(same, same)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.claimed


def test_a_constant_gap_has_no_width_and_is_claimed() -> None:
    found = paired_difference(np.full((3, 40), 0.75), np.full((3, 40), 0.5))
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.claimed


def test_the_interval_is_the_normal_one_where_rows_are_many() -> None:
    rng = np.random.default_rng(1)
    left, right = rng.random((1, 2000)) < 0.8, rng.random((1, 2000)) < 0.77
    found = paired_difference(left.astype(np.float64), right.astype(np.float64))
    difference = left[0].astype(float) - right[0]
    half = NormalDist().inv_cdf(0.975) * difference.std() / np.sqrt(2000)
    assert found.mean == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.002)


def test_seeds_that_disagree_widen_the_interval() -> None:
    rows = 400
    better, worse = np.ones(rows), np.zeros(rows)
    found = paired_difference(scores(list(better), list(worse)), np.full((2, rows), 0.5))
    assert found.mean == 0.0
    assert (found.low, found.high) == pytest.approx((-0.5, 0.5))


def test_a_pair_is_the_same_rows_of_the_same_seeds() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        paired_difference(np.zeros((1, 3)), np.zeros((1, 4)))


def test_it_repeats() -> None:
    rng = np.random.default_rng(2)
    left, right = rng.random((2, 60)), rng.random((2, 60))
    assert paired_difference(left, right) == paired_difference(left, right)
    assert paired_difference(left, right, seed=1) != paired_difference(left, right)
