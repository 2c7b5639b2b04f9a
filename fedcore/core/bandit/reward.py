"""The reward of an arm: loss drop, pruning progress and adapter importance, less lateness.

FedSpine's reward (Yao et al., 2025, arXiv 2501.02438) combines these four; its formula is not public. This bounded form
is ours, because the usual 1 / |T - mean T| is singular at the mean and punishes a fast device:

    reward = clip(w1 loss_rank + w2 progress + w3 importance_rank - w4 lateness, 0, 1)
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.errors import ConfigError

NO_REWARD = 0.0  # of a device that missed the deadline or sent an update that was rejected


class RewardParts(NamedTuple):
    """The terms of one reward, each in [0, 1]; a named tuple, because every device of every round has one."""

    loss_rank: float  # rank of the loss drop in the cohort; 1 is the largest drop
    progress: float  # realised sparsity / target
    importance_rank: float  # rank of the adapter importance in the cohort; 1 is the largest
    lateness: float  # min(1, (time - limit) / limit), 0 for a device that keeps the limit; see `reward_parts`


UNOBSERVED = (Status.LOST, Status.OUT_OF_MEMORY)


def rewards_of(
    outcomes: Sequence[Outcome], parts: Mapping[str, RewardParts], weights: Sequence[float]
) -> dict[str, float]:
    """Return the reward in [0, 1] of every observed device.

    A device with an accepted update earns the weighted sum of its `parts` (see the module). A device that missed the
    deadline, or sent an update that was rejected, earns 0. A lost device is left out: its arm did not cause the loss.
    So is one that ran out of memory: it is not offered the arm again, and others may have the memory.
    Raises ConfigError unless there are four `weights` of 0 or more.
    """
    if len(weights) != 4 or min(weights) < 0:
        raise ConfigError(f"reward weights: expected four of 0 or more, got {list(weights)}")
    rewards = {outcome.device: NO_REWARD for outcome in outcomes if outcome.status not in UNOBSERVED}
    loss, progress, importance, lateness = weights
    for device, part in parts.items():
        gained = loss * part.loss_rank + progress * part.progress + importance * part.importance_rank
        rewards[device] = min(1.0, max(0.0, gained - lateness * part.lateness))
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

    `targets` are sparsities by device. `times` are modelled seconds by device, used in place of measured ones. A device
    is late if it exceeded `budget_s`, or the cohort's median time when `budget_s` is None.

    `per_second` ranks loss drop per second instead of loss drop; use it when devices train for different times. Time
    below the budget counts as the full budget: the round lasts that long anyway, so finishing early earns nothing.

    Ranks run from 0 to 1 over the accepted devices. Ties share their mean; a single device gets 0.5. A device without a
    report, or with figures that are not finite, ranks last. Progress towards a target of 0 is complete.
    """
    accepted = [outcome for outcome in outcomes if outcome.status is Status.ACCEPTED]
    seconds = [outcome.time_s if times is None else times[outcome.device] for outcome in accepted]
    limit_s = budget_s or (statistics.median(seconds) if seconds else 0.0)
    drops = [_loss_drop(outcome) for outcome in accepted]
    if per_second:
        drops = [_rate(drop, time_s, limit_s) for drop, time_s in zip(drops, seconds, strict=True)]
    loss_ranks = _unit_ranks(drops)
    importances = _unit_ranks([_importance(outcome) for outcome in accepted])
    return {
        outcome.device: RewardParts(
            loss_rank, _progress(outcome.arm.sparsity, targets[outcome.device]), importance, _lateness(time_s, limit_s)
        )
        for outcome, loss_rank, importance, time_s in zip(accepted, loss_ranks, importances, seconds, strict=True)
    }


def _loss_drop(outcome: Outcome) -> float:
    if outcome.report is None:
        return -math.inf
    return _finite(outcome.report.metrics.loss_before - outcome.report.metrics.loss_after)


def _rate(drop: float, time_s: float, limit_s: float) -> float:
    """Return the drop that fits into the limit; a loss that rose stays as it is, however long the device took."""
    return drop * limit_s / time_s if drop > 0.0 and time_s > limit_s else drop


def _importance(outcome: Outcome) -> float:
    return -math.inf if outcome.report is None else _finite(outcome.report.metrics.adapter_importance)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _unit_ranks(values: Sequence[float]) -> list[float]:
    """Return each value's rank divided by the number of others: (smaller + half of the equal others) / (n - 1)."""
    if len(values) < 2:
        return [0.5] * len(values)
    other_count, counts = len(values) - 1, Counter(values)
    ranks: dict[float, float] = {}
    smaller = 0
    for value in sorted(counts):
        ranks[value] = (smaller + (counts[value] - 1) / 2) / other_count
        smaller += counts[value]
    return [ranks[value] for value in values]


def _progress(sparsity: float, target: float) -> float:
    return min(1.0, sparsity / target) if target > 0.0 else 1.0


def _lateness(time_s: float, limit_s: float) -> float:
    return min(1.0, max(0.0, time_s - limit_s) / limit_s) if limit_s > 0.0 else 0.0
