import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.learning_rate.schedule import half_cosine, round_share

SHARE = st.floats(0, 1)


def test_it_falls_from_one_to_the_lowest_by_half_a_cosine() -> None:
    assert [half_cosine(done, 0.2) for done in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1.0, 0.8, 0.6, 0.2])


@given(first=SHARE, second=SHARE, low=SHARE)
def test_it_never_rises_and_stays_between(first: float, second: float, low: float) -> None:
    early, late = sorted((first, second))
    assert low - 1e-12 <= half_cosine(late, low) <= half_cosine(early, low) + 1e-12 <= 1.0 + 2e-12


def test_a_lowest_share_of_one_is_constant() -> None:
    assert {half_cosine(step / 8, 1.0) for step in range(9)} == {1.0}


def test_rounds_fall_from_one_to_the_share_by_half_a_cosine() -> None:
    assert round_share(1, 11, 0.2) == pytest.approx(1.0)
    assert round_share(6, 11, 0.2) == pytest.approx(0.6)
    assert round_share(11, 11, 0.2) == pytest.approx(0.2)
    shares = [round_share(index, 11, 0.2) for index in range(1, 12)]
    assert shares == sorted(shares, reverse=True)


def test_rounds_after_void_ones_train_like_the_last() -> None:
    assert round_share(9, 5, 0.1) == pytest.approx(0.1)


def test_a_single_round_and_a_share_of_one_change_nothing() -> None:
    assert round_share(1, 1, 0.1) == 1.0
    assert {round_share(index, 7, 1.0) for index in range(1, 8)} == {1.0}
