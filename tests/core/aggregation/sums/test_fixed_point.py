from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcore.core.aggregation.sums.fixed_point import (
    MAX_TOTAL_WEIGHT,
    MEAN_ERROR_BOUND,
    SCALE,
    add_weighted,
    biased_integers,
    stepped,
    unbias,
    weighted_integers,
)
from fedcore.core.errors import UpdateRejected

LARGEST = float(np.nextafter(np.float32(64), np.float32(0)))
VALUES = st.floats(-LARGEST, LARGEST, width=32)
MATRICES = arrays(np.float32, (5, 3), elements=VALUES)


def test_known_integers():
    values = np.array([1.0, -0.5, 2.0**-33, 0.0], dtype=np.float32)
    assert weighted_integers(values, 3).tolist() == [3 * 2**33, -3 * 2**32, 3, 0]


@pytest.mark.parametrize(("halves", "even"), [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2)])
def test_ties_go_to_even(halves, even):
    assert weighted_integers(np.array([halves * 2.0**-34], dtype=np.float32), 1)[0] == even


@given(arrays(np.float32, 40, elements=VALUES))
def test_magic_rounding_equals_rint(values):
    plain = np.rint(values.astype(np.float64) * SCALE).astype(np.int64)
    assert np.array_equal(weighted_integers(values, 1), plain)


@pytest.mark.parametrize("sign", [1, -1])
def test_largest_value_at_largest_weight_does_not_overflow(sign):
    total = weighted_integers(np.array([sign * LARGEST], dtype=np.float32), MAX_TOTAL_WEIGHT)
    assert int(total[0]) == sign * MAX_TOTAL_WEIGHT * int(LARGEST * SCALE)
    assert abs(int(total[0])) == 2**63 - 2**39


@pytest.mark.parametrize("bad", [64.0, -64.0, np.inf, -np.inf, np.nan])
def test_values_outside_the_bound_are_refused(bad):
    with pytest.raises(UpdateRejected, match="finite increments below 64"):
        weighted_integers(np.array([0.0, bad, 1.0], dtype=np.float32), 1)


@settings(max_examples=50)
@given(st.lists(st.tuples(VALUES, st.integers(1, MAX_TOTAL_WEIGHT // 8)), min_size=1, max_size=8))
def test_mean_is_within_its_bound_of_the_exact_mean(terms):
    total = sum(int(weighted_integers(np.array([value], dtype=np.float32), weight)[0]) for value, weight in terms)
    weight = sum(weight for _, weight in terms)
    exact = sum(Fraction(value) * each for value, each in terms) / weight
    assert abs(Fraction(total, weight * 2**33) - exact) <= Fraction(MEAN_ERROR_BOUND)


def test_many_blocks_equal_one():
    values = np.random.default_rng(0).standard_normal((50_000, 3)).astype(np.float32)
    total = np.zeros((50_000, 3), dtype=np.int64)
    add_weighted(total, values, 7)
    assert np.array_equal(total, weighted_integers(values, 7))


@given(arrays(np.float32, 40, elements=VALUES), st.integers(1, MAX_TOTAL_WEIGHT))
def test_the_bias_may_go_at_once_or_from_the_sum(values, weight):
    parts = [biased_integers(values.astype(np.float64), each) for each in (weight, 1) if weight + 1 <= MAX_TOTAL_WEIGHT]
    total = sum(parts, np.zeros(40, dtype=np.int64))
    unbias(total, weight + 1 if parts else 0)
    expected = weighted_integers(values, weight) + weighted_integers(values, 1) if parts else np.zeros(40)
    assert np.array_equal(total, expected)


@settings(max_examples=30)
@given(st.lists(MATRICES, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_order_does_not_matter(matrices, random):
    totals = []
    for _ in range(2):
        total = np.zeros((5, 3), dtype=np.int64)
        for matrix in matrices:
            add_weighted(total, matrix, 3)
        totals.append(total)
        random.shuffle(matrices)
    assert np.array_equal(*totals)


def test_empty_tensor_adds_nothing():
    total = np.zeros((0, 4), dtype=np.int64)
    add_weighted(total, np.zeros((0, 4), dtype=np.float32), 1)
    assert total.size == 0


def test_step_adds_the_mean():
    before = np.array([1.0, -2.0], dtype=np.float32)
    after = stepped(before, np.array([2**33 * 3, 2**33 * 6]), weight=6, server_lr=0.5)
    assert after.tolist() == [1.25, -1.5]
    assert after.dtype == np.float32


def test_step_keeps_the_bits_of_what_did_not_move():
    before = np.array([-0.0, 1e-40, 3.3], dtype=np.float32)
    after = stepped(before, np.zeros(3, dtype=np.int64), weight=1, server_lr=1.0)
    assert after.tobytes() == before.tobytes()


def test_step_takes_scalars_and_does_not_touch_its_input():
    before = np.array(0.5, dtype=np.float32)
    after = stepped(before, np.array(2**33), weight=1, server_lr=1.0)
    assert after.shape == () and float(after) == 1.5 and float(before) == 0.5
