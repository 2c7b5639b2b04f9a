from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.bandit.replay import replay
from fedcore.core.pruning.counts import keep_counts
from fedcore.strategies.policy.round_budget import Timetable, best_budget, worth
from fedcore.strategies.policy.speed import Speeds, declared_speed

STEPS = (5, 10, 20, 40)


@pytest.fixture(scope="module")
def linked(roster):
    return tuple(
        replace(each, uplink_mbps=0.5 + index, downlink_mbps=2.0, slowdown=500.0 * (1 + 2 * index))
        for index, each in enumerate(roster)
    )


def test_round_one_is_the_planners_best_under_the_true_costs(build, linked):
    """Dense in warm-up: the arms are ranks x steps, few enough to plan by hand."""
    strategy = build(name="oracle", local_steps_choices=STEPS)
    arms = [(rank, steps) for rank in (2, 4, 8) for steps in STEPS]
    dense, tables = strategy.spec.geometry.dense, []
    for profile in linked:
        speed = declared_speed(profile)
        demands = [strategy.cost.demand(profile.device_class, dense, rank, steps + 2.5) for rank, steps in arms]
        tables.append(
            Timetable(
                seconds=np.array([speed.seconds(each) for each in demands]),
                worths=np.array([worth(steps, 0.0, rank / 8) for rank, steps in arms]),
                weight=profile.num_examples,
            )
        )
    budget = best_budget(tables)
    _, plan = strategy.plan(strategy.start(), linked, 1)
    assert [(each.arm.rank, each.arm.steps) for each in plan.assignments] == [
        arms[table.best_within(budget)] for table in tables
    ]
    assert plan.events[-1] == {"event": "pace", "round": 1, "budget_s": budget}


def test_it_knows_before_anything_was_measured_and_learns_nothing(build, linked, play):
    strategy = build(name="oracle", local_steps_choices=STEPS)
    state, plans, events = play(strategy, linked, 12)
    assert len({each.local_steps for each in plans[0][0].assignments}) > 1
    assert state["pace"]["speeds"] == Speeds().to_json()
    assert replay(events, strategy.bandit, 3) == state["bandits"]


def test_targets_are_reached_all_the_same(build, linked, play, fleet, geometry):
    strategy = build(name="oracle", local_steps_choices=STEPS)
    _, plans, _ = play(strategy, linked, 12, fleet(failures=False))
    targets = {"a": 0.3, "n": 0.5, "t": 0.7}
    for each in plans[-1][0].assignments:
        assert each.keep_set.counts == keep_counts(geometry, targets[each.device[0]])
