"""What an arm earned: loss drop, pruning progress and adapter importance, less lateness.

FedSpine's reward combines these four; its formula is not public. This bounded form is ours (the textbook
1 / |T - mean T| is singular at the mean and punishes being fast).
"""

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.errors import ConfigError

NO_REWARD = 0.0  # of an assignment that failed by the device's own fault


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardParts:
    """The terms of one reward, each in [0, 1]."""

    loss_rank: float  # rank of the loss drop within the cohort, 1 is the largest drop
    progress: float  # realised sparsity / target
    importance_rank: float  # rank of the adapter importance within the cohort
    lateness: float  # min(1, (time - reference) / reference), 0 for whoever is faster; the reference is the median


def rewards_of(
    outcomes: Sequence[Outcome], parts: Mapping[str, RewardParts], weights: Sequence[float]
) -> dict[str, float]:
    """Return the reward in [0, 1] of every observed device, from the parts of the accepted ones.

    clip(w1 loss_rank + w2 progress + w3 importance_rank - w4 lateness, 0, 1) for accepted updates, 0 for missed
    deadlines and rejected updates; lost devices are left out, for they say nothing about the arm. Raises ConfigError
    unless there are four weights of 0 or more.
    """
    if len(weights) != 4 or min(weights) < 0:
        raise ConfigError(f"reward weights: expected four of 0 or more, got {list(weights)}")
    rewards = {each.device: NO_REWARD for each in outcomes if each.status is not Status.LOST}
    loss, progress, importance, lateness = weights
    for device, each in parts.items():
        gained = loss * each.loss_rank + progress * each.progress + importance * each.importance_rank
        rewards[device] = min(1.0, max(0.0, gained - lateness * each.lateness))
    return rewards


def reward_parts(
    outcomes: Sequence[Outcome],
    targets: Mapping[str, float],
    times: Mapping[str, float] | None = None,
    *,
    budget_s: float | None = None,
    per_second: bool = False,
) -> dict[str, RewardParts]:
    """Return the terms of every accepted device's reward.

    Late is who took longer than `budget_s`, where it is None than the cohort's median. With `per_second`, for devices
    that do not all train equally long, ranked is the loss drop per second; seconds within the budget all count as the
    whole budget, for the round lasts so long whoever ends early: being fast is never punished, nor is it progress.

    Ranks run from 0 to 1 over the accepted devices, ties share their mean, a single device gets 0.5. A device
    without a report, or with figures that are not finite, ranks last. Progress towards a target of 0 is complete.
    """
    accepted = [each for each in outcomes if each.status is Status.ACCEPTED]
    seconds = [each.time_s if times is None else times[each.device] for each in accepted]
    reference = budget_s or (statistics.median(seconds) if seconds else 0.0)
    drops = [_loss_drop(each) for each in accepted]
    if per_second:
        drops = [_rate(drop, time_s, reference) for drop, time_s in zip(drops, seconds, strict=True)]
    loss_ranks = _unit_ranks(drops)
    importances = _unit_ranks([_importance(each) for each in accepted])
    return {
        each.device: RewardParts(
            loss_rank=loss_ranks[index],
            progress=_progress(each.arm.sparsity, targets[each.device]),
            importance_rank=importances[index],
            lateness=_lateness(seconds[index], reference),
        )
        for index, each in enumerate(accepted)
    }


def _loss_drop(outcome: Outcome) -> float:
    if outcome.report is None:
        return -math.inf
    return _finite(outcome.report.metrics.loss_before - outcome.report.metrics.loss_after)


def _rate(drop: float, time_s: float, reference_s: float) -> float:
    """Return a drop per second beyond the reference; a rise is not made smaller by taking long."""
    return drop * reference_s / time_s if drop > 0.0 and time_s > reference_s else drop


def _importance(outcome: Outcome) -> float:
    return -math.inf if outcome.report is None else _finite(outcome.report.metrics.adapter_importance)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _unit_ranks(values: Sequence[float]) -> list[float]:
    """Return each value's rank divided by the number of others: (smaller + half of the equal others) / (n - 1)."""
    if len(values) < 2:
        return [0.5] * len(values)
    others, ordered = len(values) - 1, sorted(values)
    ranks = []
    for value in values:
        smaller = bisect_left(ordered, value)
        equal = bisect_right(ordered, value, smaller) - smaller
        ranks.append((smaller + (equal - 1) / 2) / others)
    return ranks


def _progress(sparsity: float, target: float) -> float:
    return min(1.0, sparsity / target) if target > 0.0 else 1.0


def _lateness(time_s: float, reference_s: float) -> float:
    return min(1.0, max(0.0, time_s - reference_s) / reference_s) if reference_s > 0.0 else 0.0
