import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.strategies.policy.feasible import RESOLUTION, Bounds, feasible_space


def memory(sparsity, rank):
    return 100 * (1 - sparsity) + rank


def limited(limit):
    return lambda sparsity, rank: memory(sparsity, rank) <= limit


BOUNDS = Bounds(low=0.2, high=0.4, target=0.6, ranks=(4, 8, 16))


def test_without_a_limit_the_space_is_what_the_schedule_allows():
    space, within = feasible_space(BOUNDS, lambda sparsity, rank: True)
    assert (space.sparsity_low, space.sparsity_high, space.ranks, within) == (0.2, 0.4, (4, 8, 16), True)


def test_ranks_go_first_then_the_low_end_rises():
    space, within = feasible_space(BOUNDS, limited(70))  # rank 8 fits at 0.4 and needs 0.38; rank 16 never fits
    assert space.ranks == (4, 8)
    assert space.sparsity_low == pytest.approx(0.38, abs=RESOLUTION)
    assert (space.sparsity_high, within) == (0.4, True)


def test_a_device_too_small_for_the_cap_starts_sparser():
    space, within = feasible_space(BOUNDS, limited(54))
    assert space.sparsity_low == space.sparsity_high == pytest.approx(0.5, abs=RESOLUTION)
    assert (space.ranks, within) == ((4,), True)


def test_nothing_fits_even_at_the_target():
    space, within = feasible_space(BOUNDS, limited(40))
    assert (space.sparsity_low, space.sparsity_high, space.ranks, within) == (0.6, 0.6, (4,), False)


def test_what_is_committed_beyond_the_cap_stays():
    bounds = Bounds(low=0.5, high=0.4, target=0.6, ranks=(4,))
    space, _ = feasible_space(bounds, limited(1000))
    assert space.sparsity_low == space.sparsity_high == 0.5


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 0.9), st.floats(20, 130), st.floats(0, 1))
def test_every_corner_of_the_space_fits(low, high, target, limit, share):
    space, within = feasible_space(Bounds(low=low, high=high, target=target, ranks=(4, 8, 16)), limited(limit))
    assert low <= space.sparsity_low <= space.sparsity_high
    assert set(space.ranks) <= {4, 8, 16}
    if within:
        inside = space.sparsity_low + share * (space.sparsity_high - space.sparsity_low)
        assert all(memory(inside, rank) <= limit + 1e-9 for rank in space.ranks)
