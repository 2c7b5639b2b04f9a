import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.data.label_prior import MOST, LabelPlan, balanced_draws, label_plan, prior_shift
from fedcore.core.errors import DataError


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


def test_labels_are_drawn_in_the_fleet_s_shares() -> None:
    assert balanced_draws([90, 10], [500, 500]) == (50, 50)
    assert balanced_draws([30, 30], [300, 900]) == (15, 45)
    assert balanced_draws([10, 0], [500, 500]) == (10, 0)


def test_no_row_is_drawn_more_often_than_allowed() -> None:
    assert balanced_draws([99, 1], [500, 500]) == (92, 8)
    assert balanced_draws([1, 1, 98], [10, 500, 490])[1] == MOST


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 10**5)), min_size=2, max_size=8))
def test_every_label_held_is_drawn_and_no_other(pairs: list[tuple[int, int]]) -> None:
    local = [mine for mine, _ in pairs]
    draws = balanced_draws(local, [mine + others for mine, others in pairs])
    assert [count > 0 for count in draws] == [count > 0 for count in local]
    assert abs(sum(draws) - sum(local)) <= len(local)
    assert all(count <= MOST * mine + 0.5 for count, mine in zip(draws, local, strict=True))


def test_the_loss_is_shifted_by_what_drawing_leaves() -> None:
    plan = label_plan([99, 1], [500, 500], balance=True)
    assert plan.shift is not None and plan.draws == (92, 8)
    np.testing.assert_array_equal(plan.shift, prior_shift([92, 8], [500, 500]))
    apart = label_plan([99, 1], [500, 500], balance=False)
    assert apart.shift is not None and apart.draws is None
    np.testing.assert_array_equal(apart.shift, prior_shift([99, 1], [500, 500]))
    assert LabelPlan().shift is None and LabelPlan().draws is None


@pytest.mark.parametrize("balance", [True, False])
def test_a_plan_knows_how_one_sided_its_device_is(balance: bool) -> None:
    assert label_plan([70, 30], [700, 300], balance=balance).one_sided == pytest.approx(0.0, abs=1e-9)
    assert label_plan([50, 0], [700, 300], balance=balance).one_sided == 1.0
    assert 0.0 < label_plan([990, 10], [500, 500], balance=balance).one_sided < 1.0
    assert label_plan([5], [5], balance=balance).one_sided in (0.0, 1.0)  # one label alone: nothing to tell apart
    assert LabelPlan().one_sided == 0.0


@pytest.mark.parametrize(("local", "fleet"), [([1], [1, 2]), ([-1, 2], [1, 2]), ([1, 2], [1, -2])])
def test_counts_that_do_not_fit_are_refused(local: list[int], fleet: list[int]) -> None:
    with pytest.raises(DataError, match="label counts"):
        prior_shift(local, fleet)
    with pytest.raises(DataError, match="label counts"):
        balanced_draws(local, fleet)
