import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.weights import MAX_TOTAL_WEIGHT, integer_weights


def test_small_numbers_are_their_own_weights():
    assert integer_weights([3, 1, 500]) == (3, 1, 500)
    assert integer_weights([]) == ()


def test_large_numbers_are_scaled_down_in_proportion():
    big = integer_weights([3 * 2**30, 2**30, 1])
    assert big[0] / big[1] == pytest.approx(3, rel=1e-6)
    assert big[2] == 1


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=200))
def test_the_sum_stays_within_the_accumulator(counts):
    weights = integer_weights(counts)
    assert min(weights) >= 1
    assert sum(weights) <= MAX_TOTAL_WEIGHT
    ordered = sorted(zip(counts, weights, strict=True))
    assert [weight for _, weight in ordered] == sorted(weights)
