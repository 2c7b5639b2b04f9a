from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.config.tables import StrategyConfig
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.data.label_prior import balanced_shares
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


def effective(local, fleet):
    """Return the effective rows of one device."""
    places = sorted(fleet)
    counts = np.array([[local.get(label, 0) for label in places]], dtype=float)
    return effective_rows(counts, balanced_shares(counts, np.array([fleet[label] for label in places], float)))[0]


def test_rows_in_the_fleets_shares_all_count():
    assert effective({"no": 40, "yes": 40}, EVEN) == pytest.approx(80)
    assert effective({"a": 10, "b": 30}, {"a": 100, "b": 300}) == pytest.approx(40, rel=1e-3)


def test_repeated_rows_count_as_kish_says():
    rare = 8 * 6 / 331  # the share of six rows that are drawn eight times as often
    assert effective({"no": 6, "yes": 325}, EVEN) == pytest.approx(1 / (rare**2 / 6 + (1 - rare) ** 2 / 325))


def test_rows_of_one_label_all_count():
    assert effective({"yes": 325}, EVEN) == pytest.approx(325)
    assert effective({"yes": 2153, "no": 1}, EVEN) == pytest.approx(2153, rel=0.03)


@given(counts_of, counts_of)
def test_nobodys_rows_count_more_than_they_are(local, others):
    fleet = {label: local.get(label, 0) + others.get(label, 0) for label in {*local, *others}}
    rows = sum(local.values())
    assert 0 <= effective(local, fleet) <= rows * (1 + 1e-9)
    assert (effective(local, fleet) > 0) == (rows > 0)


def test_weights_are_rows_where_batches_can_be_balanced():
    fleet = [device("a", 80, {"no": 40, "yes": 40}), device("b", 330, {"no": 165, "yes": 165})]
    assert cohort_weights("examples", fleet, fleet) == cohort_weights("effective", fleet, fleet) == (80, 330)


def test_devices_of_one_label_do_not_outvote_the_others():
    fleet = [*(device(f"p{place}", 469, {"yes": 469}) for place in range(4)), device("n", 840, {"no": 840})]
    weights = cohort_weights("effective", fleet, fleet)
    assert weights[4] == pytest.approx(sum(weights[:4]), rel=0.1)


def test_a_hospital_of_one_diagnosis_counts_more_than_three_rows():
    fleet = [
        device("many", 2153, {"no": 2153}),
        device("most", 2130, {"yes": 2130}),
        device("few", 3, {"no": 2, "yes": 1}),
    ]
    many, most, few = cohort_weights("effective", fleet, fleet)
    assert many == pytest.approx(most, rel=0.05) and few < many / 100


def test_weights_of_few_rows_are_not_rounded_away():
    fleet = [*(device(f"p{place}", 3, {"yes": 3}) for place in range(4)), device("n", 2, {"no": 2})]
    weights = cohort_weights("effective", fleet, fleet)
    assert weights[4] == pytest.approx(sum(weights[:4]), rel=0.15)


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
