"""Whose keep-sets nest under one removal order for the fleet, one per class, or one per device."""

import itertools
import json
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.ordering import removal_order
from fedcore.core.pruning.scope import SCOPES, class_order


def handed_out(plans):
    """Keep-sets of accepted and other assignments by device, in order of rounds."""
    sets = defaultdict(list)
    for plan, _ in plans:
        for each in plan.assignments:
            sets[each.device].append(each.keep_set)
    return sets


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(SCOPES), st.integers(0, 9))
def test_every_devices_keep_sets_only_shrink(build, roster, play, fleet, order, seed):
    # Without failures: what a device never committed it may hold again.
    _, plans, _ = play(build(order=order, cohort=4), roster, 12, fleet(seed=seed, failures=False))
    for kept in handed_out(plans).values():
        assert all(later.is_subset_of(earlier) for earlier, later in itertools.pairwise(kept))


@pytest.mark.parametrize("order", SCOPES)
def test_keep_sets_nest_within_a_scope_and_not_beyond(build, roster, play, fleet, order):
    _, plans, _ = play(build(order=order), roster, 12, fleet(failures=False))
    last = {each.device: each.keep_set for each in plans[-1][0].assignments}

    def nest(one, other):
        return last[one].is_subset_of(last[other]) or last[other].is_subset_of(last[one])

    assert nest("a1", "a2") == (order != "device")
    assert nest("a1", "t1") == (order == "fleet")


@pytest.mark.parametrize("order", SCOPES)
def test_an_export_is_what_the_scope_says(build, roster, play, geometry, order):
    strategy = build(order=order)
    state, _, _ = play(strategy, roster, 12)
    assert len(state["order"]) == {"fleet": 1, "class": 3, "device": 6}[order]
    kept = strategy.export_keep_set(state, "tx2")
    assert kept.counts == keep_counts(geometry, 0.7)
    ranked = removal_order(class_order(state["order"], order, "tx2", geometry, None), geometry)["heads"][0]
    assert set(kept.heads[0]) == set(ranked[-len(kept.heads[0]) :].tolist())


@pytest.mark.parametrize("order", SCOPES)
def test_a_run_goes_on_from_json_under_every_scope(build, roster, play, order):
    strategy = build(order=order, cohort=4)
    through = play(strategy, roster, 8)[0]
    stored = json.loads(json.dumps(play(strategy, roster, 4)[0]))
    assert play(strategy, roster, 8, state=stored, first=5)[0] == through


def test_a_class_without_a_cut_ahead_is_not_asked_for_scores_unless_the_order_is_the_fleets(build, roster, config):
    asked = {}
    for order in SCOPES:
        strategy = build(order=order, target_sparsity=0.0)  # nx; agx and tx2 have targets of their own
        plan = strategy.plan(strategy.start(), roster, 1)[1]
        asked[order] = {each.device: each.score for each in plan.assignments}
    assert all(asked["fleet"].values())
    for order in ("class", "device"):
        assert asked[order] == {"a1": True, "a2": True, "n1": False, "n2": False, "t1": True, "t2": True}
