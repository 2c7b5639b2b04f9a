from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.config.tables import StrategyConfig
from fedcore.core.contract.profile import DeviceProfile
from fedcore.strategies.policy.cohort import (
    MAX_TOTAL_WEIGHT,
    cohort_weights,
    effective_rows,
    integer_weights,
    sample_cohort,
    weighted,
)

EVEN = {"no": 500, "yes": 500}
counts_of = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 500), max_size=4)


def device(name, rows, labels=None):
    counts = tuple(sorted((labels or {}).items()))
    return DeviceProfile(name=name, device_class="nx", num_examples=rows, label_counts=counts)


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


def test_rows_in_the_fleets_shares_all_count():
    assert effective_rows({"no": 40, "yes": 40}, EVEN) == pytest.approx(80)
    assert effective_rows({"a": 10, "b": 30}, {"a": 100, "b": 300}) == pytest.approx(40)


def test_skewed_rows_count_as_kish_says():
    assert effective_rows({"no": 6, "yes": 325}, EVEN) == pytest.approx((1 + 1) ** 2 / (1 / 6 + 1 / 325))
    assert effective_rows({"yes": 325}, EVEN) == pytest.approx(4 / (1 / 0.5 + 1 / 325))


def test_a_label_that_is_rare_in_the_fleet_may_be_missing():
    assert effective_rows({"common": 100}, {"common": 9990, "rare": 10}) > 99


@given(counts_of, counts_of)
def test_nobodys_rows_count_more_than_they_are(local, others):
    fleet = {label: local.get(label, 0) + others.get(label, 0) for label in {*local, *others}}
    assert 0 <= effective_rows(local, fleet) <= sum(local.values())


def test_weights_are_rows_or_what_they_are_worth():
    even, skewed = device("even", 80, {"no": 40, "yes": 40}), device("skewed", 331, {"no": 6, "yes": 325})
    other = device("other", 319, {"no": 319})
    assert cohort_weights("examples", [even, skewed], [even, skewed, other]) == (80, 331)
    assert cohort_weights("effective", [even, skewed], [even, skewed, other]) == (80, 24)


def test_a_device_that_tells_no_labels_counts_by_its_rows():
    silent, even = device("silent", 70), device("even", 80, {"no": 40, "yes": 40})
    assert cohort_weights("effective", [silent, even], [silent, even]) == (70, 80)
    assert cohort_weights("effective", [silent], [silent]) == (70,)


def test_what_the_configuration_says_of_weights_stands():
    assert weighted(StrategyConfig()).weights == "effective"
    assert weighted(StrategyConfig(weights="examples")).weights == "examples"


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
