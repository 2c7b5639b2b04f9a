import json
from dataclasses import replace

import pytest

from fedcore.core.bandit.replay import replay
from fedcore.core.contract.outcome import Status
from fedcore.core.contract.profile import SelfMeasurement
from fedcore.strategies.policy.pacer import ALLOWED_EXCESS, ASCENT
from fedcore.strategies.policy.round_budget import MOST_FACTOR, most_steps
from fedcore.strategies.policy.speed import Speeds, declared_speed

STEPS = (5, 10, 20, 40)


@pytest.fixture(scope="module")
def timed(fleet):
    """Devices that take what the cost model says for their true speeds, and report their phases."""

    class Timed(fleet):
        def outcomes(self, strategy, plan, roster):
            known = {profile.name: profile for profile in roster}
            return [self.timed(strategy, each, known[each.device]) for each in plan.assignments]

        def timed(self, strategy, assignment, profile):
            outcome = self.outcome(assignment, profile, strategy.spec.geometry)
            speed, cost = declared_speed(profile), strategy.cost
            counts, rank = assignment.keep_set.counts, assignment.arm.rank
            steps = assignment.local_steps + 1.0 + 1.5 * assignment.score
            demand = cost.demand(profile.device_class, counts, rank, steps)
            phases = {
                "train": speed.compute * demand.train_s,
                "download": speed.down * demand.down_bytes,
                "upload": speed.up * demand.up_bytes,
            }
            report = outcome.report and replace(outcome.report, phase_s=phases)
            return replace(outcome, report=report, time_s=speed.seconds(demand))

    return Timed


@pytest.fixture(scope="module")
def linked(roster):
    """The roster with links, so that compute and bytes both matter."""
    return tuple(
        replace(each, uplink_mbps=0.5 + index, downlink_mbps=2.0, slowdown=500.0 * (1 + 2 * index))
        for index, each in enumerate(roster)
    )


def paced(plans):
    return [(plan, outcomes, next(e for e in plan.events if e["event"] == "pace")) for plan, outcomes in plans]


def test_speeds_are_learned_as_they_are(build, linked, play, timed):
    strategy = build(pace="filter", local_steps_choices=STEPS)
    state, _, _ = play(strategy, linked, 6, timed(failures=False))
    for profile in linked:
        assert state["pace"]["speeds"]["devices"][profile.name] == pytest.approx(
            list(declared_speed(profile)), abs=1e-9
        )
    assert json.loads(json.dumps(state)) == state


def test_rounds_end_within_their_budget_once_speeds_are_known(build, linked, play, timed):
    strategy = build(pace="filter", local_steps_choices=STEPS)
    _, plans, events = play(strategy, linked, 12, timed(failures=False))
    assert paced(plans)[0][2]["budget_s"] is None  # no speed is known: all devices take the usual steps
    assert {each.local_steps for each in plans[0][0].assignments} == {10}
    used = set()
    for plan, outcomes, event in paced(plans)[1:]:
        assert max(each.time_s for each in outcomes) <= event["budget_s"] * (1 + 1e-9)
        used |= {each.local_steps for each in plan.assignments}
    assert len(used) > 1
    assert all(each["parts"]["lateness"] < 1e-9 for each in events if each["event"] == "reward" and each["round"] > 1)


def test_faster_devices_do_more_and_floors_are_met(build, linked, play, timed, geometry):
    strategy = build(pace="filter", local_steps_choices=STEPS)
    _, plans, events = play(strategy, linked, 12, timed(failures=False))
    steps = {each.device: each.local_steps for each in plans[-1][0].assignments}
    assert steps["a1"] > steps["t2"]
    for event in events:
        if event["event"] == "choice" and event["round"] >= 10:
            assert event["realised"]["sparsity"] == pytest.approx(
                {"a": 0.3, "n": 0.5, "t": 0.7}[event["device"][0]], abs=0.05
            )
            assert event["space"]["low"] <= event["arm"]["sparsity"] <= event["space"]["high"]


@pytest.mark.parametrize("pace", ["filter", "lagrange"])
def test_replay_derives_the_choices_of_a_paced_run(build, linked, play, timed, pace):
    strategy = build(pace=pace, local_steps_choices=STEPS)
    state, _, events = play(strategy, linked, 12, timed())
    assert replay(events, strategy.bandit, 3) == state["bandits"]


def test_a_paced_run_goes_on_from_json(build, linked, play, timed):
    strategy = build(pace="lagrange", local_steps_choices=STEPS, cohort=4)
    through = play(strategy, linked, 12, timed())
    state, _, early = play(strategy, linked, 5, timed())
    state, _, late = play(strategy, linked, 12, timed(), state=json.loads(json.dumps(state)), first=6)
    assert (state, early + late) == (through[0], through[2])


def test_a_device_of_a_known_class_is_predicted_by_it_and_a_stranger_is_probed(build, linked, play, timed):
    strategy = build(pace="filter", local_steps_choices=STEPS)
    few = (linked[0], linked[2])
    state, _, _ = play(strategy, few, 4, timed(failures=False))
    _, plan = strategy.plan(state, linked, 5)
    spaces = {each["device"]: each["space"] for each in plan.events if each["event"] == "choice"}
    assert spaces["t1"]["steps"] == [10]  # class tx2 is unknown: the usual steps, the smallest rank
    assert spaces["t1"]["ranks"] == [2]
    assert len(spaces["n2"]["steps"]) == 1


def test_a_stranger_that_tried_itself_needs_no_probe(build, linked, play, timed):
    strategy = build(pace="filter", local_steps_choices=STEPS)
    tried = [
        replace(
            each, trial=SelfMeasurement(gflops=60.0 / each.slowdown, uplink_mbps=each.uplink_mbps, downlink_mbps=8.0)
        )
        for each in linked
    ]
    _, plan = strategy.plan(strategy.start(), tried, 1)
    closed = [each for each in plan.events if each["event"] == "choice"]
    assert len({tuple(each["space"]["steps"]) for each in closed}) > 1, "slow and fast ones do as much as they can"
    believing = build(pace="filter", local_steps_choices=STEPS, reward_times="model")
    _, plan = believing.plan(believing.start(), tried, 1)
    assert all(each["space"]["steps"] == [10] for each in plan.events if each["event"] == "choice")


def test_modelled_times_teach_what_profiles_say(build, linked, play, fleet):
    strategy = build(pace="filter", local_steps_choices=STEPS, reward_times="model")
    state, _, _ = play(strategy, linked, 3, fleet(failures=False))  # reports no phases at all
    for profile in linked:
        assert state["pace"]["speeds"]["devices"][profile.name] == pytest.approx(list(declared_speed(profile)))


def test_the_multiplier_starts_as_the_weight_and_ascends_on_the_measured_excess(build, linked, timed):
    strategy = build(pace="lagrange", local_steps_choices=STEPS, reward_weights=(0.5, 0.2, 0.1, 0.3))
    state, devices = strategy.start(), timed(failures=False)
    assert state["pace"]["multiplier"] == 0.3
    for t in (1, 2):
        state, plan = strategy.plan(state, linked, t)
        budget, before = state["open"]["budget_s"], state["pace"]["multiplier"]
        outcomes = devices.outcomes(strategy, plan, linked)
        state, report = strategy.close(state, outcomes, t)
        if budget is None:
            assert state["pace"]["multiplier"] == before
            continue
        excess = [min(1.0, max(0.0, each.time_s / budget - 1)) for each in outcomes]
        moved = before + ASCENT * (sum(excess) / len(excess) - ALLOWED_EXCESS)
        assert state["pace"]["multiplier"] == pytest.approx(min(1.0, max(0.0, moved)))
        for event in report.events:
            parts = event["parts"]
            gained = 0.5 * parts["loss_rank"] + 0.2 * parts["progress"] + 0.1 * parts["importance_rank"]
            assert event["reward"] == pytest.approx(max(0.0, gained - before * parts["lateness"]))


def test_every_arm_stays_on_offer_under_the_multiplier(build, linked, play, timed):
    strategy = build(pace="lagrange", local_steps_choices=STEPS)
    _, plans, _ = play(strategy, linked, 4, timed(failures=False))
    for plan, _ in plans:
        assert all(each["space"]["steps"] == list(STEPS) for each in plan.events if each["event"] == "choice")


def test_a_contextual_bandit_hears_of_speeds_and_replays(build, linked, play, timed):
    strategy = build(pace="filter", local_steps_choices=STEPS, bandit="linucb", context=True)
    state, _, events = play(strategy, linked, 12, timed())
    told = {each["device"]: each["space"]["context"] for each in events if each["event"] == "choice"}
    assert told["t2"][0] > told["a1"][0] > 0.0  # slower to compute
    assert told["a1"][1] > told["t2"][1] > 0.0  # slower to send
    assert next(each for each in events if each["event"] == "choice")["space"]["context"] == [0.0, 0.0]
    assert replay(events, strategy.bandit, 3) == state["bandits"]


def test_lost_devices_teach_no_speed(build, linked, timed):
    strategy = build(pace="filter")
    state, plan = strategy.plan(strategy.start(), linked, 1)
    outcomes = [replace(each, status=Status.LOST, report=None) for each in timed().outcomes(strategy, plan, linked)]
    state, _ = strategy.close(state, outcomes, 1)
    assert state["pace"]["speeds"] == Speeds().to_json()


def test_without_a_pace_there_is_no_state_and_no_event(build, roster):
    strategy = build()
    state, plan = strategy.plan(strategy.start(), roster, 1)
    assert state["pace"] is None
    assert {each["event"] for each in plan.events} == {"choice"}


@pytest.fixture(scope="module")
def unequal(roster):
    """Devices of many rows; the last ones are slow, so that all others have time to spare."""
    return tuple(
        replace(
            profile,
            num_examples=1000,
            uplink_mbps=8.0,
            downlink_mbps=8.0,
            slowdown=500.0 * (1 + 3 * profile.name.startswith("t")),
        )
        for profile in roster
    )


def planned_steps(strategy, roster, round_index=3):
    state, plan = strategy.plan(strategy.start(), roster, round_index)
    budget_s = next(event for event in plan.events if event["event"] == "pace")["budget_s"]
    times = {device: planned["model_s"] for device, planned in state["open"]["devices"].items()}
    return {assignment.device: assignment.local_steps for assignment in plan.assignments}, budget_s, times


def declared(build, **changes):
    """A strategy that knows every speed."""
    return build(pace="filter", name="oracle", **changes)


def test_fast_devices_take_more_steps_within_the_budget(build, unequal):
    steps, budget_s, times = planned_steps(declared(build), unequal)
    waiting, _, before = planned_steps(declared(build, spare_time="wait"), unequal)
    assert set(waiting.values()) == {10}
    assert all(10 < steps[name] <= 10 * MOST_FACTOR for name in ("a1", "a2", "n1", "n2"))
    assert max(times.values()) <= max(max(before.values()), budget_s) * (1 + 1e-9)
    assert {steps[name] for name in ("t1", "t2")} == {10}


def test_steps_of_the_arm_stay(build, unequal):
    steps, _, _ = planned_steps(declared(build, local_steps_choices=(5, 10)), unequal)
    assert set(steps.values()) <= {5, 10}


def test_without_a_known_speed_all_wait(build, unequal):
    strategy = build(pace="filter")
    _, plan = strategy.plan(strategy.start(), unequal, 1)
    assert {assignment.local_steps for assignment in plan.assignments} == {10}


def test_rows_bound_the_steps(build, unequal, config):
    few = tuple(replace(profile, num_examples=4) for profile in unequal)
    steps, _, _ = planned_steps(declared(build), few)
    assert set(steps.values()) == {10}
    passes = config.training.batch_size * config.run.rounds  # rows that one step a round reads in the run
    assert most_steps(10, 2 * passes, passes) == 12
    assert most_steps(10, 100 * passes, passes) == 20
