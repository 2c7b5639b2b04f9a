"""What a closed round teaches a policy: memory, committed counts, the removal orders, the bandits."""

import math
from collections.abc import Mapping, Sequence

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
from fedcore.strategies.policy.part_choice import trains_of

SCALE_BOUNDS = (0.5, 4.0)  # how far a measured peak may move the memory estimate
ORDER_SMOOTHING = 0.7  # weight of earlier rounds' scores in a removal order


def learn_committed(committed: Mapping[str, list[int]], opened: Json, outcomes: Sequence[Outcome]) -> Json:
    """Return the committed counts: an accepted update commits the keep-set it was trained on."""
    learned = {each.device: opened[each.device]["counts"] for each in outcomes if each.status is Status.ACCEPTED}
    if learned.keys() <= committed.keys():
        return {**committed, **learned}  # sorted as it was
    return dict(sorted({**committed, **learned}.items()))


def learn_memory(scales: Mapping[str, float], opened: Json, outcomes: Sequence[Outcome], cost: RoundCost) -> Json:
    """Return each class's largest ratio of measured to estimated peak memory so far, within SCALE_BOUNDS."""
    learned = dict(scales)
    for each in outcomes:
        measured_mb = 0.0 if each.report is None else each.report.metrics.peak_memory_mb
        if not 0 < measured_mb < math.inf:
            continue
        counts = Counts(*opened[each.device]["counts"])
        trains = trains_of(opened[each.device])
        ratio = measured_mb / cost.memory_mb(counts, each.arm.rank, trains)
        bounded = min(SCALE_BOUNDS[1], max(SCALE_BOUNDS[0], ratio))
        learned[each.device_class] = max(learned.get(each.device_class, bounded), bounded)
    return learned


def learn_orders(
    orders: Mapping[str, Json], geometry: Geometry, opened: Json, outcomes: Sequence[Outcome]
) -> tuple[dict[str, Json], tuple[Json, ...]]:
    """Return the orders after the accepted devices' scores, and an event for each score that did not fit."""
    told = [(each, each.scores) for each in outcomes if each.status is Status.ACCEPTED and each.scores is not None]
    places = {each.device: _place(opened[each.device]) for each, _ in told}
    held = keep_sets_of(orders, places.values(), geometry)
    measured: dict[str, list[ScoredGroups]] = {}
    refused: list[Json] = []
    for each, scores in told:
        kept = held[places[each.device]]
        try:
            verify_scores(scores, kept)
        except UpdateRejected as cause:
            refused.append(
                {"event": "scores_refused", "round": each.round, "device": each.device, "reason": str(cause)}
            )
            continue
        scored = ScoredGroups(scores=scores, keep_set=kept, weight=opened[each.device]["weight"])
        measured.setdefault(places[each.device][0], []).append(scored)
    learned = {key: absorb(orders[key], geometry, each, ORDER_SMOOTHING) for key, each in measured.items()}
    return {**orders, **learned}, tuple(refused)


def _place(asked: Json) -> tuple[str, Counts]:
    return asked["order"], Counts(*asked["counts"])


def learn_arms(
    bandits: Mapping[str, Json], bandit: Bandit, opened: Json, outcomes: Sequence[Outcome], rewards: Mapping[str, float]
) -> Json:
    """Return the bandits' states after the realised arms' rewards, observed in the order of `outcomes`."""
    learned = dict(bandits)
    for each in outcomes:
        if each.device in rewards:
            key = opened[each.device]["bandit_key"]
            before = learned[key] if key in learned else bandit.start()
            context = tuple(opened[each.device].get("context", ()))
            learned[key] = bandit.observe(before, each.arm, rewards[each.device], context)
    return learned


def reward_event(outcome: Outcome, opened: Json, reward: float | None, parts: RewardParts | None) -> Json:
    """Return the log's record of what one arm earned; `reward` None where nothing was observed."""
    return {
        "event": "reward",
        "round": outcome.round,
        "device": outcome.device,
        "bandit_key": opened[outcome.device]["bandit_key"],
        "arm": arm_json(outcome.arm),
        "reward": reward,
        **({"context": opened[outcome.device]["context"]} if "context" in opened[outcome.device] else {}),
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
