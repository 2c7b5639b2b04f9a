"""Which arms a device may be given: between what it must and may prune, within its memory."""

from collections.abc import Callable
from dataclasses import dataclass

from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace
from fedcore.core.pruning.schedule import Schedule

RESOLUTION = 1e-3  # of sparsity, when searching the least one that fits

Fits = Callable[[float, int], bool]  # (sparsity, rank) -> within the device's memory; monotone in both


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What schedule and history allow: sparsity in [low, high], up to `target` where memory forces it."""

    low: float
    high: float
    target: float
    ranks: tuple[int, ...]  # ascending
    steps: tuple[int, ...] = NO_STEPS  # ascending; memory does not depend on them


def schedule_of(config: Config, device_class: str) -> Schedule:
    """Return the sparsity schedule of a class."""
    return Schedule(
        target=config.target_sparsity(device_class),
        warmup_rounds=config.strategy.warmup_rounds,
        recovery_rounds=config.strategy.recovery_rounds,
        rounds=config.run.rounds,
    )


def feasible_space(bounds: Bounds, fits: Fits) -> tuple[ArmSpace, bool]:
    """Return the arms that fit, and whether any does.

    A rank stays where it fits at the high end of sparsity; the low end then rises to the least sparsity at
    which every rank that stayed fits, so the whole box is feasible. Where even the smallest rank does not fit at
    the high end (a device whose memory cannot hold the dense warm-up), the space is one point: the smallest rank
    at the least sparsity up to the target that fits. Where none does, that point is the target, and False comes
    with it: memory was measured to be larger than estimated at the join, and nothing smaller is left to try.
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
