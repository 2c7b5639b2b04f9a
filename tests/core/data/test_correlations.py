"""Correlations of answers with targets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.data.correlations import pearson, spearman

NUMBERS = st.lists(st.integers(-1000, 1000), min_size=2, max_size=20)


def test_exact_values() -> None:
    assert pearson([1, 2, 3], [1, 2, 3]) == pytest.approx(1.0)
    assert pearson([1, 2, 3], [6, 4, 2]) == pytest.approx(-1.0)
    assert pearson([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert spearman([1, 2, 3, 4], [1, 9, 4, 100]) == pytest.approx(0.8)
    assert spearman([1, 1, 2], [5, 6, 7]) == pytest.approx(0.8660254)


def test_one_answer_for_all_is_worth_nothing_and_one_target_for_all_is_not_defined() -> None:
    assert pearson([2, 2], [1, 5]) == 0.0 == spearman([2, 2], [1, 5])
    assert pearson([1, 5], [0.1, 0.1]) is None and spearman([1, 5], [3, 3]) is None


def test_large_and_small_numbers() -> None:
    assert pearson([1e200, 2e200, 4e200], [1e-200, 2e-200, 4e-200]) == pytest.approx(1.0)


@given(NUMBERS)
def test_ranks_do_not_care_for_the_scale(values: list[int]) -> None:
    targets = np.arange(len(values))
    cubed = [float(value) ** 3 for value in values]
    assert spearman(values, targets) == pytest.approx(spearman(cubed, targets))


@given(NUMBERS)
def test_a_correlation_is_symmetric_and_between_minus_one_and_one(values: list[int]) -> None:
    other = np.sin(np.arange(len(values)))
    found = pearson(values, other)
    assert found is not None and -1 <= found <= 1
    if len(set(values)) > 1:
        assert pearson(other, values) == pytest.approx(found, abs=1e-12)
