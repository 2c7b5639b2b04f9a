import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import ConfigError, RunError, UpdateRejected
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.ordering import (
    ScoredGroups,
    absorb,
    freeze,
    frozen_counts,
    initial_order,
    keep_set,
    known_scores,
    mean_order,
    removal_order,
)


def random_scores(kept, seed):
    rng = np.random.default_rng(seed)

    def vectors(rows):
        drawn = [rng.random(len(row)) + 1e-3 for row in rows]
        return tuple((each / np.linalg.norm(each)).astype(np.float32) for each in drawn)

    return GroupScores(heads=vectors(kept.heads), channels=vectors(kept.channels))


def measured(kept, seed, weight=1):
    return ScoredGroups(scores=random_scores(kept, seed), keep_set=kept, weight=weight)


def scored(geometry, heads, kept=None):
    """Scores with the same `heads` in every layer and flat channels."""
    kept = kept or KeepSet.full(geometry)
    return GroupScores(
        heads=(np.array(heads, dtype=np.float32),) * geometry.layers,
        channels=tuple(np.ones(len(row), dtype=np.float32) for row in kept.channels),
    )


def test_without_prior_the_order_is_by_index(small):
    state = initial_order(small)
    assert removal_order(state, small)["heads"][0].tolist() == [0, 1, 2, 3]
    assert keep_set(state, small, Counts(4, 20)) == KeepSet.full(small)


def test_prior_puts_the_least_important_first(small):
    state = initial_order(small, scored(small, [3, 1, 4, 2]))
    assert removal_order(state, small)["heads"][1].tolist() == [1, 3, 0, 2]
    assert keep_set(state, small, Counts(2, 20)).heads == ((0, 2), (0, 2))


def test_prior_of_another_model_is_refused(small, minilm):
    with pytest.raises(UpdateRejected, match="head scores"):
        initial_order(small, random_scores(KeepSet.full(minilm), 0))


def test_first_measurement_replaces_the_prior_and_the_second_is_averaged(small):
    full = KeepSet.full(small)
    state = initial_order(small, scored(small, [3, 1, 4, 2]))
    first = np.array([0.5, 0.5, 0.1, 0.7])
    state = absorb(state, small, [ScoredGroups(scores=scored(small, first), keep_set=full, weight=3)], 0.9)
    assert known_scores(state, small).heads[0] == pytest.approx(first / np.linalg.norm(first), rel=1e-5)
    second = np.array([0.1, 0.9, 0.3, 0.3])
    state = absorb(state, small, [ScoredGroups(scores=scored(small, second), keep_set=full, weight=3)], 0.9)
    mean = first / np.linalg.norm(first) + second / np.linalg.norm(second)
    assert known_scores(state, small).heads[0] == pytest.approx(mean / np.linalg.norm(mean), rel=1e-5)
    assert state["rounds"] == 2


def test_devices_count_by_weight(small):
    full = KeepSet.full(small)
    one, other = np.array([1.0, 0, 0, 0]), np.array([0, 1.0, 0, 0])
    state = absorb(
        initial_order(small),
        small,
        [
            ScoredGroups(scores=scored(small, one), keep_set=full, weight=3),
            ScoredGroups(scores=scored(small, other), keep_set=full, weight=1),
        ],
        0.5,
    )
    assert known_scores(state, small).heads[0][:2] == pytest.approx(np.array([3, 1]) / np.sqrt(10), rel=1e-5)


def test_a_sparser_device_is_rescaled_to_what_the_fleet_knows_of_its_groups(small):
    dense = np.array([0.1, 0.1, 0.7, 0.7])
    full = KeepSet.full(small)
    state = absorb(
        initial_order(small), small, [ScoredGroups(scores=scored(small, dense), keep_set=full, weight=1)], 0.5
    )
    kept = KeepSet(heads=((1, 3),) * 2, channels=full.channels)
    alike = dense[[1, 3]] / np.linalg.norm(dense[[1, 3]])  # norm 1 over its own groups
    again = absorb(state, small, [ScoredGroups(scores=scored(small, alike, kept), keep_set=kept, weight=1)], 0.5)
    assert known_scores(again, small).heads[0] == pytest.approx(known_scores(state, small).heads[0], rel=1e-5)


def test_a_layer_without_signal_changes_nothing(small):
    full = KeepSet.full(small)
    state = initial_order(small, scored(small, [3, 1, 4, 2]))
    after = absorb(state, small, [ScoredGroups(scores=scored(small, [0] * 4), keep_set=full, weight=1)], 0.5)
    assert after["heads"] == state["heads"]


def test_nothing_measured_returns_the_state(small):
    state = initial_order(small)
    assert absorb(state, small, [], 0.5) is state


def test_scores_that_do_not_fit_are_refused(small):
    kept = KeepSet(heads=((1, 3),) * 2, channels=KeepSet.full(small).channels)
    wrong = ScoredGroups(scores=random_scores(KeepSet.full(small), 0), keep_set=kept, weight=1)
    with pytest.raises(UpdateRejected, match="head scores of layer 0"):
        absorb(initial_order(small), small, [wrong], 0.5)
    with pytest.raises(ConfigError, match="smoothing"):
        absorb(initial_order(small), small, [], 1.0)


def test_freeze_only_grows(small):
    state = freeze(initial_order(small), small, Counts(2, 5))
    assert frozen_counts(freeze(state, small, Counts(1, 9)), small) == Counts(2, 9)
    assert freeze(state, small, Counts(1, 2)) == state


@pytest.mark.parametrize("counts", [(0, 5), (5, 5), (1, 0), (1, 21)])
def test_counts_outside_the_model_are_refused(small, counts):
    with pytest.raises(ConfigError, match="keep counts"):
        keep_set(initial_order(small), small, Counts(*counts))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 9)), min_size=1, max_size=5))
def test_keep_sets_nest_over_rounds_whatever_is_measured(small, rounds):
    state, sparsity, last = initial_order(small), 0.0, KeepSet.full(small)
    for step, seed in rounds:
        sparsity = min(0.95, sparsity + step)
        counts = keep_counts(small, sparsity)
        kept = keep_set(state, small, counts)
        kept.validate(small)
        assert kept.is_subset_of(last)
        assert kept.is_subset_of(keep_set(state, small, keep_counts(small, sparsity / 2)))
        state = freeze(state, small, Counts(4 - counts.heads, 20 - counts.channels))
        state = absorb(state, small, [measured(kept, seed), measured(KeepSet.full(small), seed + 1)], 0.7)
        assert keep_set(state, small, counts) == kept  # what was handed out stays what it was
        last = kept


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_state_survives_json_exactly(small, seed):
    state = absorb(initial_order(small), small, [measured(KeepSet.full(small), seed)], 0.5)
    assert json.loads(json.dumps(state)) == state
    assert sorted(removal_order(state, small)["channels"][0].tolist()) == list(range(20))


def test_operations_do_not_change_their_argument(small):
    state = initial_order(small)
    before = json.dumps(state)
    freeze(state, small, Counts(2, 3))
    absorb(state, small, [measured(KeepSet.full(small), 0)], 0.5)
    assert json.dumps(state) == before


def test_frozen_groups_lead_the_order_as_they_were_removed(small):
    state = initial_order(small, scored(small, [3, 1, 4, 2]))
    state = freeze(state, small, Counts(2, 0))
    loud = ScoredGroups(scores=scored(small, [1, 9, 2, 8]), keep_set=KeepSet.full(small), weight=1)
    state = absorb(state, small, [loud], 0.5)
    assert removal_order(state, small)["heads"][0].tolist() == [1, 3, 0, 2]


def test_the_mean_of_orders_goes_by_the_mean_of_scores_and_one_order_stays_itself(small):
    full = KeepSet.full(small)
    first, second = (
        absorb(initial_order(small), small, [ScoredGroups(scores=scored(small, each), keep_set=full, weight=1)], 0.5)
        for each in ([1, 0, 0, 0], [0, 1, 0, 0])
    )
    cut = freeze(first, small, Counts(2, 0))
    mean = mean_order([cut, second], small)
    assert known_scores(mean, small).heads[0].tolist() == [0.5, 0.5, 0, 0]
    assert removal_order(mean, small)["heads"][0].tolist() == [2, 3, 0, 1]
    assert frozen_counts(mean, small) == Counts(0, 0)
    assert mean_order([cut], small) is cut
    with pytest.raises(ValueError, match="no order to average"):
        mean_order([], small)


@pytest.mark.parametrize("damage", [{"heads": [{"order": [0], "scores": [1.0]}]}, {"heads": {"scores": "??"}}, {}])
def test_another_form_of_state_is_refused_with_advice(small, damage):
    with pytest.raises(RunError, match="not in this version's form"):
        keep_set({**damage, "channels": {}, "rounds": 1}, small, Counts(1, 1))
