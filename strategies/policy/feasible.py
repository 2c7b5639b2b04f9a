"""The feasible arms of a device: between the least and the largest allowed sparsity, within its memory."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fedcore.core.config.auto import recovery_rounds, warmup_rounds
from fedcore.core.config.tables import Config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace
from fedcore.core.cost.training_step import StepMode
from fedcore.core.model.geometry import Counts
from fedcore.core.model.trained_part import TrainedPart
from fedcore.core.pruning.schedule import Schedule
from fedcore.strategies.policy.cost import RoundCost

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Whether work fits into a device's memory: by the cost model, and by what was measured.

    `scales` are measured / modelled peaks by class. `ceilings` are for devices that ran out of memory: the modelled
    MiB that each may be given at most. `checkpointing` is `training.gradient_checkpointing`; None: where work would not
    fit otherwise.
    """

    cost: RoundCost
    scales: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    checkpointing: bool | None = False

    def needed_mb(self, profile: DeviceProfile, modelled_mb: float) -> float:
        """Return the memory that work takes on a device, by the model and what its class and itself measured."""
        measured = max(self.scales.get(profile.device_class, 0.0), profile.trial.memory_scale)
        return modelled_mb * (measured or 1.0)

    def allows(self, profile: DeviceProfile, modelled_mb: float) -> bool:
        """Whether a device may be given work of so many modelled MiB."""
        within = profile.memory_mb == 0 or self.needed_mb(profile, modelled_mb) <= profile.memory_mb
        return within and modelled_mb <= self.ceilings.get(profile.name, math.inf)

    def modelled_mb(self, profile: DeviceProfile, counts: Counts, rank: int, part: TrainedPart) -> float:
        """Return the modelled memory of a training step as the device would take it."""
        mode = self.mode(profile, counts, rank, part)
        return self.cost.of(profile.device_class).memory_mb(counts, rank, part, mode)

    def fits(self, profile: DeviceProfile, counts: Counts, rank: int, part: TrainedPart) -> bool:
        """Whether a device has the memory for a training step."""
        return self.allows(profile, self.modelled_mb(profile, counts, rank, part))

    def mode(self, profile: DeviceProfile, counts: Counts, rank: int, part: TrainedPart) -> StepMode:
        """Return how a device computes a training step: in its precision, and with checkpoints where it must."""
        plain = StepMode(profile.precision)
        checkpointed = self.checkpointing
        if checkpointed is None:
            modelled = self.cost.of(profile.device_class).memory_mb(counts, rank, part, plain)
            checkpointed = not self.allows(profile, modelled)
        return StepMode(profile.precision, checkpointed)


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
