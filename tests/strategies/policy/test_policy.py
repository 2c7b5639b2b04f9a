import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.bandit.replay import replay
from fedcore.core.contract.outcome import GroupScores, Status
from fedcore.core.contract.profile import SelfMeasurement
from fedcore.core.errors import JoinRefused, RunError
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.ordering import frozen_counts
from fedcore.core.seeds import derive_seed
from fedcore.strategies.policy.cohort import cohort_weights


def memory(strategy, sparsity, rank):
    return strategy.cost.memory_mb(keep_counts(strategy.spec.geometry, sparsity), rank)


def test_plan_is_pure_and_equal_seeds_give_equal_plans(build, roster, play):
    strategy = build(cohort=4)
    state, _, _ = play(strategy, roster, 5)
    before = json.dumps(state)
    assert strategy.plan(state, roster, 6) == strategy.plan(state, roster, 6) == build(cohort=4).plan(state, roster, 6)
    assert json.dumps(state) == before
    assert len(strategy.plan(state, roster, 6)[1].assignments) == 4


def test_close_does_not_change_its_state(build, roster, fleet):
    strategy = build()
    state, plan = strategy.plan(strategy.start(), roster, 1)
    outcomes = fleet().outcomes(strategy, plan, roster)
    before = json.dumps(state)
    assert strategy.close(state, outcomes, 1) == strategy.close(state, list(reversed(outcomes)), 1)
    assert json.dumps(state) == before


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 11), st.integers(0, 5), st.sampled_from(["factor-mean", "delta-stack"]))
def test_a_run_goes_on_from_json_as_if_it_had_not_stopped(build, roster, play, fleet, stop, seed, aggregator):
    strategy = build(aggregator=aggregator, cohort=5)
    through = play(strategy, roster, 12, fleet(seed=seed))
    state, _, early = play(strategy, roster, stop, fleet(seed=seed))
    stored = json.loads(json.dumps(state))
    assert stored == state
    state, _, late = play(strategy, roster, 12, fleet(seed=seed), state=stored, first=stop + 1)
    assert state == through[0]
    assert early + late == through[2]


def test_an_assignment_carries_what_the_device_needs(build, roster, config):
    strategy = build()
    _, plan = strategy.plan(strategy.start(), roster, 1)
    first = plan.assignments[0]
    assert (first.device, first.round, first.local_steps, first.deadline_s) == ("a1", 1, 10, 120.0)
    assert first.seed == derive_seed(3, "train", 1, "a1")
    assert len({each.seed for each in plan.assignments}) == len(roster)
    assert first.training.lora_scale == config.training.lora_scale
    assert [each.weight for each in plan.assignments] == [10, 20] * 3


def test_local_steps_are_a_part_of_the_arm_where_there_is_a_choice(build, roster, play):
    strategy = build(local_steps_choices=(5, 20))
    state, plans, events = play(strategy, roster, 12)
    assigned = [each for plan, _ in plans for each in plan.assignments]
    assert {each.local_steps for each in assigned} == {5, 20}
    assert all(each.local_steps == each.arm.steps for each in assigned)
    assert all(event["arm"]["steps"] == event["realised"]["steps"] for event in events if event["event"] == "choice")
    assert replay(events, strategy.bandit, 3) == state["bandits"]


def test_more_steps_are_modelled_to_take_longer(build, roster):
    cost, counts = build().cost, Counts(8, 64)
    twice, once = (cost.seconds(roster[0], counts, 4, steps) for steps in (20, 10))
    assert twice == pytest.approx(2 * once)  # no link, no wait
    assert cost.seconds(roster[0], counts, 4) == once  # training.local_steps


def test_choice_events_say_what_was_realised(build, roster, geometry):
    strategy = build()
    _, plan = strategy.plan(strategy.start(), roster, 6)
    for each, event in zip(plan.assignments, plan.events, strict=True):
        heads, channels, _ = each.keep_set.counts
        assert event["realised"] == {
            "sparsity": each.keep_set.sparsity(geometry),
            "rank": each.arm.rank,
            "heads": heads,
            "channels": channels,
        }
        assert event["arm"] == {"sparsity": each.arm.sparsity, "rank": each.arm.rank}


def test_too_little_memory_for_the_target_is_refused_with_the_figures(build, roster):
    strategy = build()
    needed = memory(strategy, 0.5, 2)
    fits = replace(roster[2], memory_mb=needed)
    strategy.admit(fits)
    strategy.admit(roster[2])  # 0 is no limit
    message = r"n1 of class nx: .* at sparsity 0.5 and rank 2, the device allows 0 MiB; raise memory_mb"
    with pytest.raises(JoinRefused, match=message):
        strategy.admit(replace(fits, memory_mb=needed / 2))


def test_a_device_too_small_for_the_warmup_starts_from_the_prior_order(build, roster, geometry, fleet):
    prior = GroupScores(
        heads=tuple(np.arange(8, 0, -1).astype(np.float32) for _ in range(2)),
        channels=tuple(np.arange(64, 0, -1).astype(np.float32) for _ in range(2)),
    )
    strategy = build(prior=prior)
    limit = memory(strategy, 0.25, 2)
    small = replace(roster[2], memory_mb=limit)
    state, plan = strategy.plan(strategy.start(), (roster[0], small), 1)
    dense, cut = plan.assignments
    assert dense.keep_set == KeepSet.full(geometry)
    heads, channels, _ = cut.keep_set.counts
    assert strategy.cost.memory_mb(cut.keep_set.counts, cut.arm.rank) <= limit
    assert cut.keep_set.heads[0] == tuple(range(heads))  # the last, least important by the prior, are gone
    assert frozen_counts(state["order"]["fleet"], geometry) == Counts(0, 0)  # nobody has scored: a provisional cut
    state, _ = strategy.close(state, fleet(failures=False).outcomes(strategy, plan, roster), 1)
    warmup, later = strategy.plan(state, (roster[0], small), 2)
    # by the scores of the device that holds every group
    assert not later.assignments[1].keep_set.is_subset_of(cut.keep_set)
    state, _ = strategy.close(warmup, fleet(failures=False).outcomes(strategy, later, roster), 2)
    state, third = strategy.plan(state, (roster[0], small), 3)
    heads, channels, _ = third.assignments[1].keep_set.counts
    assert frozen_counts(state["order"]["fleet"], geometry) == Counts(8 - heads, 64 - channels)


def test_a_weak_device_leaves_the_exports_of_other_classes_as_they_were(build, roster, fleet):
    strategy, exports = build(), []
    for weakest in (roster[2], replace(roster[2], memory_mb=memory(build(), 0.25, 2))):
        state, plan = strategy.plan(strategy.start(), (roster[0], weakest), 1)
        accepted = fleet(failures=False).outcomes(strategy, plan, roster)
        scored = [
            replace(outcome, scores=None if outcome.device == weakest.name else outcome.scores) for outcome in accepted
        ]
        state, _ = strategy.close(state, scored, 1)
        exports.append(strategy.export_keep_set(state, "agx"))
    assert exports[0] == exports[1]


@settings(max_examples=12, deadline=None)
@given(st.floats(0.3, 1.2), st.integers(0, 3))
def test_limited_devices_never_get_an_arm_that_does_not_fit(build, roster, fleet, share, seed):
    strategy = build()
    limits = [memory(strategy, 0.0, 8) * share] * len(roster)
    limited = tuple(replace(each, memory_mb=limit) for each, limit in zip(roster, limits, strict=True))
    state = strategy.start()
    for t in range(1, 13):
        scales = state["memory_scale"]
        state, plan = strategy.plan(state, limited, t)
        for each, event in zip(plan.assignments, plan.events, strict=True):
            needed = strategy.cost.memory_mb(each.keep_set.counts, each.arm.rank) * scales.get(event["class"], 1.0)
            assert needed <= limits[0] * (1 + 1e-9) or not event["within_memory"]
        state, _ = strategy.close(state, fleet(seed=seed).outcomes(strategy, plan, limited), t)


def test_a_lost_device_commits_nothing(build, roster, fleet):
    strategy = build()
    state, plan = strategy.plan(strategy.start(), roster, 6)
    outcomes = [
        replace(each, status=Status.ACCEPTED if each.device == "n1" else Status.LOST)
        for each in fleet(failures=False).outcomes(strategy, plan, roster)
    ]
    after, report = strategy.close(state, outcomes, 6)
    assert set(after["committed"]) == {"n1"}
    assert set(report.rewards) == {"n1"}
    assert set(after["bandits"]) == {"nx"}
    assert after["open"] is None


def test_measured_peaks_scale_the_estimate_per_class_and_within_bounds(build, roster, fleet):
    strategy = build()
    state, plan = strategy.plan(strategy.start(), roster, 1)
    factors = {"a1": 1.5, "a2": 1.2, "n1": 9.0, "n2": float("nan"), "t1": 0.01, "t2": 0.0}
    outcomes = []
    for each, assignment in zip(fleet(failures=False).outcomes(strategy, plan, roster), plan.assignments, strict=True):
        estimate = strategy.cost.memory_mb(assignment.keep_set.counts, each.arm.rank)
        peak = estimate * factors[each.device]
        outcomes.append(
            replace(each, report=replace(each.report, metrics=replace(each.report.metrics, peak_memory_mb=peak)))
        )
    state, _ = strategy.close(state, outcomes, 1)
    assert state["memory_scale"] == pytest.approx({"agx": 1.5, "nx": 4.0, "tx2": 0.5})
    state, plan = strategy.plan(state, roster, 2)
    outcomes = [
        replace(each, report=replace(each.report, metrics=replace(each.report.metrics, peak_memory_mb=1e-6)))
        for each in fleet(failures=False).outcomes(strategy, plan, roster)
    ]
    assert strategy.close(state, outcomes, 2)[0]["memory_scale"] == pytest.approx({"agx": 1.5, "nx": 4.0, "tx2": 0.5})


def test_scores_that_do_not_fit_are_reported_and_left_out(build, roster, fleet):
    strategy = build()
    state, plan = strategy.plan(strategy.start(), roster, 1)
    good = fleet(failures=False).outcomes(strategy, plan, roster)
    bad = replace(good[0], scores=GroupScores(heads=(), channels=()))
    after, report = strategy.close(state, [bad, *good[1:]], 1)
    refused = [each for each in report.events if each["event"] == "scores_refused"]
    assert [(each["device"], each["round"]) for each in refused] == [("a1", 1)]
    without = strategy.close(state, [replace(good[0], scores=None), *good[1:]], 1)[0]
    assert after["order"] == without["order"]


def test_modelled_times_make_rewards_repeatable(build, roster, fleet):
    strategy = build(reward_times="model")
    state, plan = strategy.plan(strategy.start(), roster, 1)
    outcomes = fleet(failures=False).outcomes(strategy, plan, roster)
    slower = [replace(each, time_s=each.time_s * (1 + index)) for index, each in enumerate(outcomes)]
    assert strategy.close(state, outcomes, 1) == strategy.close(state, slower, 1)
    parts = {each["device"]: each["parts"] for each in strategy.close(state, outcomes, 1)[1].events}
    assert parts["t2"]["lateness"] > parts["a1"]["lateness"] == 0.0


def test_closing_what_was_not_planned_is_refused(build, roster, fleet):
    strategy = build()
    state, plan = strategy.plan(strategy.start(), roster[:3], 1)
    outcomes = fleet().outcomes(strategy, plan, roster)
    with pytest.raises(RunError, match="cannot close round 2: the plan is for round 1"):
        strategy.close(state, outcomes, 2)
    with pytest.raises(RunError, match="no assignment for zz"):
        strategy.close(state, [replace(outcomes[0], device="zz")], 1)
    with pytest.raises(RunError, match="the plan is for round None"):
        strategy.close(strategy.start(), [], 1)


def test_an_empty_roster_plans_nothing(build):
    strategy = build()
    state, plan = strategy.plan(strategy.start(), (), 1)
    assert plan.assignments == plan.events == ()
    assert strategy.close(state, [], 1)[1].rewards == {}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "fedspine"}, "effective"),
        ({"name": "random-arms"}, "effective"),
        ({"name": "oracle"}, "effective"),
        ({"name": "fedspine", "weights": "examples"}, "examples"),
        ({"name": "fedavg-lora"}, "examples"),
        ({"name": "uniform", "weights": "effective"}, "effective"),
    ],
)
def test_a_cohort_is_weighted_as_its_strategy_says(build, roster, settings, expected):
    skewed = tuple(replace(each, label_counts=(("no", 1), ("yes", each.num_examples - 1))) for each in roster)
    strategy = build(**settings)
    _, plan = strategy.plan(strategy.start(), skewed, 1)
    weights = {each.device: each.weight for each in plan.assignments}
    profiles = [each for each in skewed if each.name in weights]
    assert list(weights.values()) == list(cohort_weights(expected, profiles, skewed))


def smallest(strategy, profile):
    return memory(strategy, strategy.config.target_sparsity(profile.device_class), strategy.config.strategy.ranks[0])


def test_a_device_that_ran_out_of_memory_gets_less_until_it_fits_or_nothing(build, roster, fleet):
    strategy = build()
    state, needed, profile = strategy.start(), [], roster[0]
    for number in range(1, 12):
        state, plan = strategy.plan(state, (profile, roster[3]), number)
        mine = [assignment for assignment in plan.assignments if assignment.device == profile.name]
        if not mine:
            break
        needed.append(strategy.cost.memory_mb(mine[0].keep_set.counts, mine[0].arm.rank))
        outcomes = [
            replace(each, status=Status.OUT_OF_MEMORY, report=None, scores=None)
            if each.device == profile.name
            else each
            for each in fleet(failures=False).outcomes(strategy, plan, roster)
        ]
        state, report = strategy.close(state, outcomes, number)
        (event,) = [event for event in report.events if event["event"] == "memory_ceiling"]
        assert event["device"] == profile.name and event["ceiling_mb"] < needed[-1]
        assert profile.name not in report.rewards, "the arm is not punished for one device"
    assert 2 <= len(needed) < 10 and needed == sorted(needed, reverse=True) and len(set(needed)) == len(needed)
    assert needed[-1] == pytest.approx(smallest(strategy, profile), rel=0.05)
    assert [each.device for each in plan.assignments] == [roster[3].name], "nothing is left to give"


def test_checkpoints_are_taken_only_where_an_arm_would_not_fit_otherwise(build, roster):
    strategy = build()
    limited = replace(roster[0], memory_mb=0.9 * memory(strategy, 0.0, strategy.config.strategy.ranks[0]))

    def first(value):
        changed = replace(strategy.config, training=replace(strategy.config.training, gradient_checkpointing=value))
        policy = replace(strategy, config=changed)
        return policy.plan(policy.start(), (limited, roster[3]), 1)[1].assignments

    plain, auto, always = first(False), first(None), first(True)
    assert [each.training.checkpointing for each in plain] == [False, False] and plain[0].arm.sparsity > 0
    assert [each.training.checkpointing for each in auto] == [True, False] and auto[0].arm.sparsity == 0
    assert [each.training.checkpointing for each in always] == [True, True]
    gated = replace(strategy.config.training, gradient_checkpointing=True, importance="l0")
    assert replace(strategy, config=replace(strategy.config, training=gated)).memory().checkpointing is False


def test_what_a_device_measured_of_its_memory_counts(build, roster):
    strategy = build()
    profile = replace(roster[0], memory_mb=1.2 * smallest(strategy, roster[0]))
    strategy.admit(profile)
    with pytest.raises(JoinRefused):
        strategy.admit(replace(profile, trial=SelfMeasurement(memory_scale=1.3)))
