from collections import Counter

import numpy as np
import pytest

from fedcore.strategies.policy.sampler import sample_cohort


@pytest.mark.parametrize("size", [0, 6, 9])
def test_all_devices_by_name(roster, size):
    shuffled = list(reversed(roster))
    assert [each.name for each in sample_cohort(shuffled, size, np.random.default_rng(0))] == [
        "a1", "a2", "n1", "n2", "t1", "t2",
    ]  # fmt: skip


def test_a_cohort_is_drawn_without_replacement_and_sorted(roster):
    names = [each.name for each in sample_cohort(roster, 3, np.random.default_rng(0))]
    assert names == sorted(set(names))
    assert len(names) == 3


def test_every_device_is_as_likely(roster):
    rng = np.random.default_rng(0)
    drawn = Counter(each.name for _ in range(600) for each in sample_cohort(roster, 2, rng))
    assert all(abs(count - 200) < 45 for count in drawn.values())
    assert len(drawn) == 6


def test_an_empty_roster_gives_an_empty_cohort():
    assert sample_cohort([], 3, np.random.default_rng(0)) == ()
