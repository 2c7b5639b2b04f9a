"""From arms to assignments; which keep-sets nest under an order for the fleet, one per class, or one per device."""

import itertools
import json
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.model.geometry import Counts
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.ordering import frozen_counts, removal_order
from fedcore.core.pruning.scope import SCOPES, class_order, first_orders
from fedcore.core.seeds import derive_seed
from fedcore.strategies.policy.assignments import cut_models
from fedcore.strategies.policy.cohort import CohortMember
from fedcore.strategies.policy.state import PolicyState


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


def test_an_order_is_frozen_as_far_as_its_deepest_cut_in_either_kind(build, roster, geometry):
    strategy = build(order="class")
    chooser = strategy.chooser(PolicyState(orders={}), 3)  # the first round after the warm-up
    offers = [chooser.offer(CohortMember(profile=profile, weight=1, score=False)) for profile in roster[:3]]
    counts = (Counts(8, 60), Counts(6, 64), Counts(7, 63))  # two of one class, one of another
    choices = [replace(chooser.choose(offer), counts=kept) for offer, kept in zip(offers, counts, strict=True)]
    orders, keep_sets = cut_models(strategy, {}, choices)
    assert [kept.counts for kept in keep_sets] == list(counts)
    frozen = {key: frozen_counts(order, geometry) for key, order in orders.items()}
    assert frozen == {"agx": Counts(2, 4), "nx": Counts(1, 1)}


def test_a_cut_in_the_warmup_freezes_nothing(build, roster, geometry):
    strategy = build()
    chooser = strategy.chooser(PolicyState(orders=first_orders("fleet", geometry, None)), 1)
    choice = chooser.choose(chooser.offer(CohortMember(profile=roster[0], weight=1, score=True)))
    orders, [kept] = cut_models(
        strategy, first_orders("fleet", geometry, None), [replace(choice, counts=Counts(4, 32))]
    )
    assert kept.counts == Counts(4, 32)
    assert frozen_counts(orders["fleet"], geometry) == Counts(0, 0)


def test_an_open_round_keeps_what_its_assignments_say(build, roster, config):
    strategy = build(local_steps_choices=(5, 20))
    state, plan = strategy.plan(strategy.start(), roster, 3)
    opened = PolicyState.from_json(state).open
    assert opened.round == 3 and set(opened.devices) == {each.name for each in roster}
    for assignment in plan.assignments:
        planned = opened.devices[assignment.device]
        assert (planned.counts, planned.weight) == (assignment.keep_set.counts, assignment.weight)
        assert (planned.order_key, planned.part) == ("fleet", assignment.training.trains)
        profile = next(each for each in roster if each.name == assignment.device)
        arm = assignment.arm
        assert planned.model_s == strategy.cost.seconds(profile, planned.counts, arm.rank, arm.steps)
        assert (assignment.local_steps, assignment.deadline_s) == (arm.steps, config.coordinator.round_deadline_s)
        assert assignment.seed == derive_seed(3, "train", 3, assignment.device)
