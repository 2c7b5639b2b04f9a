"""What a closed round teaches, one function at a time, in exact numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.bandit.reward import RewardParts
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import DeviceReport, GroupScores, Outcome, Status, TrainingMetrics
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import Factors, TrainedPart
from fedcore.core.pruning.ordering import initial_order, known_scores
from fedcore.strategies.policy.cost import Demand
from fedcore.strategies.policy.device_table import DeviceTable
from fedcore.strategies.policy.speed import SelfMeasured
from fedcore.strategies.policy.state import PacedWork, PlannedDevice
from fedcore.strategies.policy.updates import (
    learn_arms,
    learn_committed,
    learn_memory,
    learn_orders,
    reward_event,
)

PLANNED = PlannedDevice(counts=Counts(8, 64), weight=2, bandit_key="nx", order_key="fleet", model_s=1.0)
WORK = PacedWork(demand=Demand(1.0, 1.0, 1.0), self_measured=SelfMeasured(), context=(0.5, 0.25))
METRICS = TrainingMetrics(loss_before=1.0, loss_after=0.5, train_loss=0.7, peak_memory_mb=10.0, adapter_importance=1.0)
REPORT = DeviceReport(
    metrics=METRICS,
    phase_s={},
    num_examples=10,
    steps=5,
    bytes_down=1,
    bytes_up=1,
)


def outcome(device="n1", status=Status.ACCEPTED, report=REPORT, scores=None):
    return Outcome(
        device=device,
        device_class="nx",
        round=3,
        arm=Arm(sparsity=0.25, rank=4),
        status=status,
        time_s=1.0,
        report=report,
        scores=scores,
    )


class Noting:
    """A bandit whose state is the list of what it observed."""

    name = "noting"

    def start(self):
        return {"seen": []}

    def select(self, state, space, rng):
        raise NotImplementedError

    def observe(self, state, arm, reward, context=()):
        return {"seen": [*state["seen"], [arm.rank, reward, list(context)]]}


def test_accepted_updates_commit_their_counts_and_no_others():
    before = DeviceTable(Counts, {"n1": [8, 64]})
    planned = {name: PLANNED._replace(counts=Counts(6, 40)) for name in ("n1", "n2", "n3")}
    ended = [outcome("n1", Status.REJECTED), outcome("n2"), outcome("n3", Status.LOST)]
    assert learn_committed(before, planned, ended).to_json() == {"n1": [8, 64], "n2": [6, 40]}


def test_a_class_remembers_its_largest_excess_of_memory_within_bounds(build):
    cost, part = build().cost, TrainedPart(factors=Factors.B)
    planned = {"n1": PLANNED._replace(part=part)}
    estimate = cost.memory_mb(Counts(8, 64), 4, part)

    def learned(scales, peak_mb):
        report = replace(REPORT, metrics=replace(METRICS, peak_memory_mb=peak_mb))
        return learn_memory(scales, planned, [outcome(report=report)], cost)

    assert learned({}, 1.5 * estimate) == {"nx": pytest.approx(1.5)}
    assert learned({"nx": 2.0}, 1.5 * estimate) == {"nx": 2.0}
    assert (learned({}, 99 * estimate), learned({}, 0.01 * estimate)) == ({"nx": 4.0}, {"nx": 0.5})
    assert learned({"agx": 1.0}, math.nan) == learned({"agx": 1.0}, 0.0) == {"agx": 1.0}
    assert learn_memory({}, planned, [outcome(report=None)], cost) == {}


def test_orders_learn_from_accepted_scores_by_weight(geometry):
    def scores(first):
        heads = np.full(8, 0.1, dtype=np.float32)
        heads[first] = 1.0
        return GroupScores(heads=(heads,) * 2, channels=(np.ones(64, dtype=np.float32),) * 2)

    planned = {"n1": PLANNED._replace(weight=3), "n2": PLANNED._replace(weight=1), "n3": PLANNED}
    ended = [outcome("n1", scores=scores(0)), outcome("n2", scores=scores(1)), outcome("n3", Status.LOST)]
    orders, refused = learn_orders({"fleet": initial_order(geometry)}, geometry, planned, ended)
    heads = known_scores(orders["fleet"], geometry).heads[0]
    assert refused == () and orders["fleet"]["rounds"] == 1
    assert heads[0] > heads[1] > heads[2] == pytest.approx(heads[7])
    assert (heads[0] - heads[2]) / (heads[1] - heads[2]) == pytest.approx(3.0, rel=1e-5)


def test_scores_that_do_not_fit_are_an_event_and_leave_the_order_alone(geometry):
    before = {"fleet": initial_order(geometry)}
    short = GroupScores(heads=(np.ones(3, dtype=np.float32),) * 2, channels=(np.ones(64, dtype=np.float32),) * 2)
    orders, (event,) = learn_orders(before, geometry, {"n1": PLANNED}, [outcome(scores=short)])
    assert orders == before
    assert (event["event"], event["round"], event["device"]) == ("scores_refused", 3, "n1")
    assert "expected shape (8,), got (3,)" in event["reason"]
    assert KeepSet.full(geometry).counts == PLANNED.counts


def test_bandits_observe_rewards_in_order_with_the_context_they_were_shown():
    planned = {"n1": PLANNED, "n2": PLANNED._replace(pace=WORK), "t1": PLANNED._replace(bandit_key="tx2")}
    rewards = {"n1": 0.5, "n2": 0.75}  # t1 was lost
    ended = [outcome("n1"), outcome("n2"), outcome("t1", Status.LOST)]
    before = {"tx2": {"seen": []}}
    assert learn_arms(before, Noting(), planned, ended, rewards) == {
        "tx2": {"seen": []},
        "nx": {"seen": [[4, 0.5, []], [4, 0.75, [0.5, 0.25]]]},
    }
    assert before == {"tx2": {"seen": []}}


def test_a_reward_event_says_what_replay_needs():
    parts = RewardParts(loss_rank=1.0, progress=0.5, importance_rank=0.25, lateness=0.0)
    event = reward_event(outcome(), PLANNED, 0.5, parts)
    assert event == {
        "event": "reward",
        "round": 3,
        "device": "n1",
        "bandit_key": "nx",
        "arm": {"sparsity": 0.25, "rank": 4},
        "reward": 0.5,
        "status": "accepted",
        "parts": {"loss_rank": 1.0, "progress": 0.5, "importance_rank": 0.25, "lateness": 0.0},
    }
    seen = reward_event(outcome(status=Status.LOST), PLANNED._replace(pace=WORK), None, None)
    assert (seen["context"], seen["reward"], seen["parts"]) == ([0.5, 0.25], None, None)
