"""Limits of a run: quorum counts and ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import ConfigError
from fedcore.core.rounds.policy import RoundPolicy

GOOD = {
    "total_rounds": 1,
    "quorum": 0.5,
    "deadline_s": 1.0,
    "lease_s": 1.0,
    "min_devices": 1,
    "max_void_rounds": 1,
    "join_deadline_s": 1.0,
}


@pytest.mark.parametrize(
    ("quorum", "size", "count"),
    [(0.5, 1, 1), (0.5, 2, 1), (0.5, 3, 2), (0.55, 100, 55), (0.7, 10, 7), (1.0, 6, 6), (0.01, 3, 1), (0.1, 0, 1)],
)
def test_quorum_count(quorum: float, size: int, count: int) -> None:
    assert RoundPolicy(**{**GOOD, "quorum": quorum}).quorum_count(size) == count


@given(st.floats(0.001, 1.0), st.integers(1, 10_000))
def test_quorum_count_is_the_smallest_share_that_suffices(quorum: float, size: int) -> None:
    count = RoundPolicy(**{**GOOD, "quorum": quorum}).quorum_count(size)
    assert 1 <= count <= size
    assert count >= quorum * size - 1e-6 and (count == 1 or count - 1 < quorum * size)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quorum", 0.0),
        ("quorum", 1.1),
        ("deadline_s", 0.0),
        ("lease_s", -1.0),
        ("join_deadline_s", float("inf")),
        ("total_rounds", 0),
        ("min_devices", 0),
        ("max_void_rounds", 0),
    ],
)
def test_a_limit_out_of_range_is_named(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        RoundPolicy(**{**GOOD, key: value})
