import itertools
from collections import defaultdict

import pytest

from fedcore.core.bandit.replay import replay
from fedcore.core.contract.outcome import Status
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.counts import keep_counts

TARGETS = {"agx": 0.3, "nx": 0.5, "tx2": 0.7}


@pytest.fixture(scope="module", params=["s-ucb", "fixed", "random"])
def game(request, build, roster, play):
    strategy = build(bandit=request.param)
    return strategy, *play(strategy, roster, 12)


def test_keep_sets_never_come_back(game, geometry):
    _, _, plans, _ = game
    last: dict[str, KeepSet] = defaultdict(lambda: KeepSet.full(geometry))
    for plan, outcomes in plans:
        for each in plan.assignments:
            each.keep_set.validate(geometry)
            assert each.keep_set.is_subset_of(last[each.device])
        for outcome, each in zip(outcomes, plan.assignments, strict=True):
            if outcome.status is Status.ACCEPTED:
                last[each.device] = each.keep_set


def test_keep_sets_nest_over_the_fleet(game, geometry):
    _, _, plans, _ = game
    for plan, _ in plans:
        ordered = sorted((each.keep_set for each in plan.assignments), key=lambda kept: kept.sparsity(geometry))
        assert all(sparse.is_subset_of(dense) for dense, sparse in itertools.pairwise(ordered))


def test_sparsity_follows_the_schedule(game, geometry):
    _, _, plans, events = game
    dense = geometry.dense
    for plan, _ in plans[:2]:
        assert all(each.keep_set.counts == dense for each in plan.assignments)
    for plan, _ in plans[-3:]:  # from the last cut on
        for each, event in zip(plan.assignments, plan.events, strict=True):
            assert each.keep_set.counts == keep_counts(geometry, TARGETS[event["class"]])
    for event in events:
        if event["event"] == "choice":
            assert event["space"]["low"] <= event["arm"]["sparsity"] <= event["space"]["high"]
            assert event["space"]["high"] <= max(event["space"]["low"], TARGETS[event["class"]])


def test_exports_are_what_devices_trained_last(game, geometry):
    strategy, state, plans, _ = game
    for each, event in zip(plans[-1][0].assignments, plans[-1][0].events, strict=True):
        assert strategy.export_keep_set(state, event["class"]) == each.keep_set


def test_scores_are_asked_for_while_a_cut_lies_ahead(game):
    _, _, plans, _ = game
    asked = [{each.score for each in plan.assignments} for plan, _ in plans]
    assert asked == [{True}] * 9 + [{False}] * 3


def test_replay_derives_every_choice_again(game):
    strategy, state, _, events = game
    assert replay(events, strategy.bandit, 3) == state["bandits"]


def test_rewards_are_logged_for_all_and_observed_but_for_the_lost(game):
    _, _, plans, events = game
    statuses = {(each.round, each.device): each.status for _, outcomes in plans for each in outcomes}
    rewards = {(each["round"], each["device"]): each for each in events if each["event"] == "reward"}
    assert rewards.keys() == statuses.keys()
    for key, status in statuses.items():
        assert (rewards[key]["reward"] is None) == (status is Status.LOST)
        assert (rewards[key]["parts"] is not None) == (status is Status.ACCEPTED)


def test_shared_and_personal_posteriors(build, roster, play):
    shared, _, _ = play(build(), roster, 2)
    personal, _, _ = play(build(share_posterior=False), roster, 2)
    assert set(shared["bandits"]) <= {"agx", "nx", "tx2"}
    assert set(personal["bandits"]) <= {each.name for each in roster}
    assert len(personal["bandits"]) > 3
