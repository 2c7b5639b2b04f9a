"""The updates of a policy's state after a closed round: memory, committed counts, removal orders, bandits.

Every function returns a part of the next state from the same part of the last one. `planned` is the planned work of
each device, `outcomes` are in the order of devices' names.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from fedcore.core.bandit.replay import arm_json
from fedcore.core.bandit.reward import RewardParts
from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.contract.protocols import Bandit, Json
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.pruning.ordering import ScoredGroups, absorb
from fedcore.core.pruning.scope import keep_sets_of
from fedcore.core.pruning.score_check import verify_scores
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.device_table import DeviceTable
from fedcore.strategies.policy.state import PlannedDevice

STEP_SHARE = 0.01  # of the smallest work's memory: a ceiling that moves by less is at its end
SCALE_BOUNDS = (0.5, 4.0)  # how far a measured peak may move the memory estimate
ORDER_SMOOTHING = 0.7  # weight of earlier rounds' scores in a removal order

Planned = Mapping[str, PlannedDevice]  # by device


def learn_committed(
    committed: DeviceTable[Counts], planned: Planned, outcomes: Sequence[Outcome]
) -> DeviceTable[Counts]:
    """Return the committed counts: an accepted update commits the keep-set that it was trained on."""
    accepted = [outcome.device for outcome in outcomes if outcome.status is Status.ACCEPTED]
    return committed.updated({device: planned[device].counts for device in accepted})


def learn_memory(
    scales: Mapping[str, float], planned: Planned, outcomes: Sequence[Outcome], cost: RoundCost
) -> dict[str, float]:
    """Return each class's largest ratio of measured to estimated peak memory so far, within SCALE_BOUNDS."""
    largest: dict[str, float] = {}
    for outcome in outcomes:
        peak_mb = 0.0 if outcome.report is None else outcome.report.metrics.peak_memory_mb
        if not 0 < peak_mb < math.inf:
            continue
        device = planned[outcome.device]
        modelled = cost.of(outcome.device_class).memory_mb(device.counts, outcome.arm.rank, device.part, device.mode)
        ratio = peak_mb / modelled
        largest[outcome.device_class] = max(ratio, largest.get(outcome.device_class, 0.0))
    least, most = SCALE_BOUNDS
    bounded = {device_class: min(most, max(least, ratio)) for device_class, ratio in largest.items()}
    return {**scales, **{name: max(scale, scales.get(name, scale)) for name, scale in bounded.items()}}


class LearnedCosts(Protocol):
    """What `learn_ceilings` needs of a policy."""

    @property
    def cost(self) -> RoundCost:
        """The cost model."""
        ...

    def least_mb(self, device_class: str, precision: str) -> float:
        """Return the modelled memory of the smallest work of a class's devices, MiB."""
        ...


def learn_ceilings(
    ceilings: Mapping[str, float], planned: Planned, outcomes: Sequence[Outcome], costs: LearnedCosts
) -> dict[str, float]:
    """Return the modelled MiB that a device may be given at most, for every device that ran out of memory.

    A device that ran out is never given as much again: its ceiling falls half the way to the smallest work there is,
    so that a few failures find what it can do. With the smallest work, which is given where nothing fits, it falls to
    0: nothing is left to give.
    """
    learned = dict(ceilings)
    for outcome in outcomes:
        if outcome.status is not Status.OUT_OF_MEMORY:
            continue
        device = planned[outcome.device]
        least = costs.least_mb(outcome.device_class, device.mode.precision)
        needed = costs.cost.of(outcome.device_class).memory_mb(
            device.counts, outcome.arm.rank, device.part, device.mode
        )
        above = (needed - least) / 2
        if needed <= least or needed > ceilings.get(outcome.device, math.inf):
            learned[outcome.device] = 0.0
        else:
            learned[outcome.device] = least if above < STEP_SHARE * least else least + above
    return learned


def ceiling_events(before: Mapping[str, float], after: Mapping[str, float], round_index: int) -> list[Json]:
    """Return the log's record of every ceiling that a round moved; 0: the device takes part no more."""
    moved = [(device, ceiling) for device, ceiling in after.items() if before.get(device) != ceiling]
    return [
        {"event": "memory_ceiling", "round": round_index, "device": device, "ceiling_mb": ceiling}
        for device, ceiling in sorted(moved)
    ]


def learn_orders(
    orders: Mapping[str, Json], geometry: Geometry, planned: Planned, outcomes: Sequence[Outcome]
) -> tuple[dict[str, Json], tuple[Json, ...]]:
    """Return the orders after the accepted devices' scores, and an event for each score that did not fit."""
    scored = [
        (outcome, outcome.scores)
        for outcome in outcomes
        if outcome.status is Status.ACCEPTED and outcome.scores is not None
    ]
    places = {outcome.device: _place(planned[outcome.device]) for outcome, _ in scored}
    keep_sets = keep_sets_of(orders, places.values(), geometry)
    measured: dict[str, list[ScoredGroups]] = {}
    refused: list[Json] = []
    for outcome, scores in scored:
        place = places[outcome.device]
        try:
            verify_scores(scores, keep_sets[place])
        except UpdateRejected as cause:
            refused.append(
                {"event": "scores_refused", "round": outcome.round, "device": outcome.device, "reason": str(cause)}
            )
            continue
        groups = ScoredGroups(scores=scores, keep_set=keep_sets[place], weight=planned[outcome.device].weight)
        measured.setdefault(place[0], []).append(groups)
    learned = {key: absorb(orders[key], geometry, groups, ORDER_SMOOTHING) for key, groups in measured.items()}
    return {**orders, **learned}, tuple(refused)


def _place(planned: PlannedDevice) -> tuple[str, Counts]:
    return planned.order_key, planned.counts


def learn_arms(
    bandits: Mapping[str, Json],
    bandit: Bandit,
    planned: Planned,
    outcomes: Sequence[Outcome],
    rewards: Mapping[str, float],
) -> dict[str, Json]:
    """Return the bandits' states after the realised arms' rewards, observed in the order of `outcomes`."""
    learned = dict(bandits)
    for outcome in outcomes:
        if outcome.device in rewards:
            device = planned[outcome.device]
            before = learned[device.bandit_key] if device.bandit_key in learned else bandit.start()
            learned[device.bandit_key] = bandit.observe(before, outcome.arm, rewards[outcome.device], device.context)
    return learned


def reward_event(outcome: Outcome, planned: PlannedDevice, reward: float | None, parts: RewardParts | None) -> Json:
    """Return the log's record of one arm's reward; `reward` is None where none was observed."""
    context = planned.context
    return {
        "event": "reward",
        "round": outcome.round,
        "device": outcome.device,
        "bandit_key": planned.bandit_key,
        "arm": arm_json(outcome.arm),
        "reward": reward,
        **({"context": list(context)} if context else {}),
        "status": str(outcome.status),
        "parts": None
        if parts is None
        else {
            "loss_rank": parts.loss_rank,
            "progress": parts.progress,
            "importance_rank": parts.importance_rank,
            "lateness": parts.lateness,
        },
    }
