import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.errors import DataError
from fedcore.label_prior import prior_shift


def test_the_formula() -> None:
    shift = prior_shift([9, 0], [49, 49])
    expected = [np.log(10 / 11) - np.log(0.5), np.log(1 / 11) - np.log(0.5)]
    np.testing.assert_allclose(shift, expected, rtol=1e-6)
    assert shift.dtype == np.float32


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=8))
def test_a_device_with_the_fleet_s_own_counts_is_not_shifted(counts: list[int]) -> None:
    np.testing.assert_array_equal(prior_shift(counts, counts), np.zeros(len(counts), dtype=np.float32))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=8))
def test_every_shift_is_finite(pairs: list[tuple[int, int]]) -> None:
    assert np.isfinite(prior_shift([a for a, _ in pairs], [b for _, b in pairs])).all()


@pytest.mark.parametrize(("local", "fleet"), [([1], [1, 2]), ([-1, 2], [1, 2]), ([1, 2], [1, -2])])
def test_counts_that_do_not_fit_are_refused(local: list[int], fleet: list[int]) -> None:
    with pytest.raises(DataError, match="label counts"):
        prior_shift(local, fleet)
