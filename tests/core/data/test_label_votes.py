import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.data.label_votes import LARGEST_CUT, LARGEST_GAIN, cancelled_votes, one_sidedness

SHARES = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3).map(lambda parts: np.array(parts) / sum(parts))


def test_devices_with_the_fleets_shares_keep_their_weights() -> None:
    fleet = np.array([0.7, 0.3])
    weights = np.array([3.0, 500.0])
    assert cancelled_votes(weights, np.stack([fleet, fleet]), fleet) is weights


def test_one_sidedness() -> None:
    fleet = np.array([0.7, 0.3])
    measured = one_sidedness(np.array([[0.7, 0.3], [1.0, 0.0], [0.95, 0.05], [0.5, 0.5]]), fleet)
    assert measured[0] == pytest.approx(0.0, abs=1e-12) and measured[1] == 1.0
    assert 0.5 < measured[2] < 1.0 and measured[3] == 0.0


def test_pulls_of_one_label_devices_cancel() -> None:
    fleet = np.array([0.7, 0.3])
    draws = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 2)
    weights = cancelled_votes(np.array([450.0] * 4 + [400.0] * 2), draws, fleet)
    assert weights[:4].sum() == pytest.approx(weights[4:].sum(), rel=0.1)
    assert weights.sum() == pytest.approx(2600)


def test_a_mixed_device_is_moved_less_than_a_device_of_one_label() -> None:
    fleet = np.array([0.5, 0.5])
    draws = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.4, 0.6]])
    before = np.array([100.0, 100.0, 100.0, 100.0])
    factors = cancelled_votes(before, draws, fleet) / before
    assert factors[2] > factors[3] > factors[0]
    assert abs(np.log(factors[3])) < abs(np.log(factors[2]))


def test_what_cannot_cancel_is_bounded() -> None:
    fleet = np.array([0.999, 0.001])
    draws = np.array([[1.0, 0.0]] * 500 + [[0.0, 1.0]])
    before = np.ones(501)
    after = cancelled_votes(before, draws, fleet)
    assert after[-1] / after[0] <= LARGEST_GAIN * LARGEST_CUT * (1 + 1e-9)
    assert after[-1] > 1


def test_a_device_with_every_label_outweighs_those_of_one_that_nothing_cancels() -> None:
    """The six devices of a Dirichlet draw at 0.1: the only rows of the first label are in the mixed one."""
    fleet = np.array([0.3, 0.7])
    draws = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.3, 0.7], [0.0, 1.0]])
    before = np.array([1.0, 1.0, 341.0, 168.0, 1451.0])
    after = cancelled_votes(before, draws, fleet)
    assert after[3] > after[2] + after[4]
    assert after[1] < 0.02 * after.sum()  # a single row
    again = cancelled_votes(before * 10, draws, fleet)
    np.testing.assert_allclose(again, after * 10)


def test_a_device_without_label_counts_has_no_vote() -> None:
    fleet = np.array([0.5, 0.5])
    draws = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    after = cancelled_votes(np.array([300.0, 100.0, 100.0]), draws, fleet)
    assert after[0] == pytest.approx(after[1], rel=0.1)


@given(st.lists(st.tuples(SHARES, st.integers(1, 5000)), min_size=1, max_size=12), SHARES)
def test_weights_stay_positive_and_pulls_never_grow(devices: list[tuple[np.ndarray, int]], fleet: np.ndarray) -> None:
    draws = np.stack([shares for shares, _ in devices])
    before = np.array([float(count) for _, count in devices])
    after = cancelled_votes(before, draws, fleet)
    assert (after > 0).all() and after.sum() == pytest.approx(before.sum())
