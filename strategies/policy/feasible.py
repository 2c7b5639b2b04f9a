"""The feasible arms of a device: between the least and the largest allowed sparsity, within its memory."""

from collections.abc import Callable
from dataclasses import dataclass

from fedcore.core.config.auto import recovery_rounds, warmup_rounds
from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace
from fedcore.core.pruning.schedule import Schedule

RESOLUTION = 1e-3  # of sparsity, in the search for the least one that fits

Fits = Callable[[float, int], bool]  # (sparsity, rank) -> within the device's memory; monotone in both


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of schedule and history: sparsity in [low, high], up to `target` where memory forces it."""

    low: float
    high: float
    target: float
    ranks: tuple[int, ...]  # ascending
    steps: tuple[int, ...] = NO_STEPS  # ascending; memory does not depend on them


def schedule_of(config: Config, device_class: str) -> Schedule:
    """Return the sparsity schedule of a class."""
    return Schedule(
        target=config.target_sparsity(device_class),
        warmup_rounds=warmup_rounds(config),
        recovery_rounds=recovery_rounds(config),
        rounds=config.run.rounds,
    )


def feasible_space(bounds: Bounds, fits: Fits) -> tuple[ArmSpace, bool]:
    """Return the arms that fit, and whether any fits.

    A rank is feasible if it fits at the high end of sparsity. The low end then rises to the least sparsity at which
    every feasible rank fits, so the whole box is feasible. Where even the smallest rank does not fit at the high end
    (a device with too little memory for the dense warm-up), the space is one point: the smallest rank at the least
    sparsity up to the target that fits. Where no sparsity fits, that point is the target, and the second value is
    False: measured memory exceeds the estimate at the join, and there is no smaller arm.
    """
    low, high = bounds.low, max(bounds.low, bounds.high)
    ranks = tuple(rank for rank in bounds.ranks if fits(high, rank))
    if ranks:
        least = _least(low, high, lambda sparsity: fits(sparsity, ranks[-1]))
        return ArmSpace(sparsity_low=least, sparsity_high=high, ranks=ranks, steps=bounds.steps), True
    last = max(high, bounds.target)
    smallest = bounds.ranks[0]
    within = fits(last, smallest)
    point = _least(high, last, lambda sparsity: fits(sparsity, smallest)) if within else last
    return ArmSpace(sparsity_low=point, sparsity_high=point, ranks=(smallest,), steps=bounds.steps), within


def _least(low: float, high: float, fits: Callable[[float], bool]) -> float:
    """Return the least sparsity in [low, high] that fits, to RESOLUTION from above; `high` fits."""
    if fits(low):
        return low
    while high - low > RESOLUTION:
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
