import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.learning_rate import half_cosine

SHARE = st.floats(0, 1)


def test_it_falls_from_one_to_the_lowest_by_half_a_cosine() -> None:
    assert [half_cosine(done, 0.2) for done in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1.0, 0.8, 0.6, 0.2])


@given(first=SHARE, second=SHARE, low=SHARE)
def test_it_never_rises_and_stays_between(first: float, second: float, low: float) -> None:
    early, late = sorted((first, second))
    assert low - 1e-12 <= half_cosine(late, low) <= half_cosine(early, low) + 1e-12 <= 1.0 + 2e-12


def test_a_lowest_share_of_one_is_constant() -> None:
    assert {half_cosine(step / 8, 1.0) for step in range(9)} == {1.0}
