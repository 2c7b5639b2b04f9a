"""A partition of the arms into boxes of (sparsity, log2 rank, log2 steps) that grows finer where it is observed.

Theory of operation. A leaf keeps its discounted number of observations N and their discounted reward sum. Every
observation first multiplies both by the discount, in all leaves. It then counts in the leaf that holds the observed
arm. This leaf is split at the arm, across its widest normalised side, if that side is wider than `min_width` and N is
at least `split_count`.

The two children inherit their parent's mean and half of its N each: the newest observation lies on their border, so it
counts for both. Therefore a split changes no mean and no sum of N, and it needs no history.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fedcore.core.bandit.random_arm import one_of
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace
from fedcore.core.errors import ConfigError

SPLIT_COUNT = 3.0  # discounted observations a leaf needs before it may split
_PARTITIONS = 64  # cached: a run has one, benchmarks compare several


class Box(NamedTuple):
    """A box of arms: sparsity in [low, high), bins of ranks in [first, last) and of steps in [early, late)."""

    low: float
    high: float
    first: int
    last: int
    pulls: float = 0.0  # discounted
    total: float = 0.0  # of the rewards, discounted
    early: int = 0
    late: int = 1


Leaves = list[list[Any]]  # JSON: the fields of `Box`, without the last two where there is no choice of steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The axes and the rule of splitting.

    Bin i holds the ranks from `ranks[i]` up to, not including, `ranks[i + 1]`; the first also holds all below, the last
    all above. Steps have bins of the same kind. So every arm lies in exactly one leaf, even with a rank or steps
    outside `ranks` and `steps`.
    """

    ranks: tuple[int, ...]  # ascending
    steps: tuple[int, ...] = NO_STEPS  # ascending
    discount: float  # in (0, 1], per observation
    min_width: float  # in (0, 1], share of an axis
    split_count: float = SPLIT_COUNT

    def __post_init__(self) -> None:
        for name, axis, least in (("ranks", self.ranks, 1), ("steps", self.steps, 0)):
            if not axis or list(axis) != sorted(set(axis)) or axis[0] < least or (len(axis) > 1 and axis[0] < 1):
                raise ConfigError(f"bandit: expected ascending {name} of at least 1, got {axis}")
        if not (0 < self.discount <= 1 and 0 < self.min_width <= 1 and self.split_count > 0):
            raise ConfigError(
                f"bandit: expected discount in (0, 1], min_width in (0, 1] and split_count > 0; "
                f"got {self.discount}, {self.min_width}, {self.split_count}"
            )

    def start(self) -> Leaves:
        """Return one unseen leaf that holds every arm."""
        return [self._json(Box(low=0.0, high=1.0, first=0, last=len(self.ranks), late=len(self.steps)))]

    def inside(self, leaves: Leaves, space: ArmSpace) -> list[Box]:
        """Return the leaves that hold an arm of `space`."""
        ranks, steps = self._bins(self.ranks, space.ranks), self._bins(self.steps, space.steps)
        low, high = space.sparsity_low, space.sparsity_high
        # As in `observe`, only leaves that are needed become `Box`es.
        return [
            Box(*values)
            for values in leaves
            if values[0] <= high
            and low < values[1]
            and _meets(values[2:4], ranks)
            and (len(values) < 8 or _meets(values[6:8], steps))
        ]

    def draw(self, leaf: Box, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return a uniform arm of the part of `leaf` that lies in `space`."""
        low, high = max(leaf.low, space.sparsity_low), min(leaf.high, space.sparsity_high)
        sparsity = min(high, max(low, float(rng.uniform(low, high))))
        if sparsity == leaf.high:
            sparsity = low  # rounding must not step outside the half-open leaf
        ranks = [rank for rank in space.ranks if leaf.first <= _bin(self.ranks, rank) < leaf.last]
        steps = tuple(count for count in space.steps if leaf.early <= _bin(self.steps, count) < leaf.late)
        return Arm(sparsity=sparsity, rank=ranks[int(rng.integers(len(ranks)))], steps=one_of(steps, rng))

    def observe(self, leaves: Leaves, arm: Arm, reward: float) -> Leaves:
        """Return the leaves after `arm`, as realised, earned `reward`; the one that holds it may split."""
        if not 0.0 <= reward <= 1.0:
            raise ConfigError(f"bandit: expected a reward in [0, 1], got {reward}")
        rank_bin, step_bin = _bin(self.ranks, arm.rank), _bin(self.steps, arm.steps)
        after: Leaves = []
        # Plain lists are fast: there are up to some dozens of leaves, and every device of every round is observed.
        for values in leaves:
            low, high, first, last, count, total, *rest = values
            count, total = count * self.discount, total * self.discount
            inside = low <= arm.sparsity < high and first <= rank_bin < last
            if inside and (not rest or rest[0] <= step_bin < rest[1]):
                hit = Box(*values)._replace(pulls=count + 1, total=total + reward)
                after += [self._json(leaf) for leaf in self._split(hit, arm.sparsity, rank_bin, step_bin)]
            else:
                after.append([low, high, first, last, count, total, *rest])
        return after

    def _split(self, leaf: Box, sparsity: float, rank_bin: int, step_bin: int) -> list[Box]:
        """Cut at the arm: sparsities below it from the rest, or its rank or steps from the next lower one."""
        widths = (
            leaf.high - leaf.low,
            _width(self.ranks, leaf.first, leaf.last),
            _width(self.steps, leaf.early, leaf.late),
        )
        if max(widths) <= self.min_width or leaf.pulls < self.split_count:
            return [leaf]
        half = leaf._replace(pulls=leaf.pulls / 2, total=leaf.total / 2)
        for axis in sorted(range(3), key=lambda index: -widths[index]):  # stable: sparsity first where equally wide
            if axis == 0 and sparsity > leaf.low:
                return [half._replace(high=sparsity), half._replace(low=sparsity)]
            if axis == 1 and leaf.last - leaf.first > 1:
                border = max(rank_bin, leaf.first + 1)
                return [half._replace(last=border), half._replace(first=border)]
            if axis == 2 and leaf.late - leaf.early > 1:
                border = max(step_bin, leaf.early + 1)
                return [half._replace(late=border), half._replace(early=border)]
        return [leaf]

    def _bins(self, axis: tuple[int, ...], values: Sequence[int]) -> list[int]:
        return [_bin(axis, value) for value in values]

    def _json(self, leaf: Box) -> list[Any]:
        return list(leaf[:6] if len(self.steps) == 1 else leaf)


@lru_cache(_PARTITIONS)
def partition(
    ranks: tuple[int, ...], steps: tuple[int, ...], discount: float, min_width: float, split_count: float
) -> Partition:
    """Return the partition of a bandit's settings, made and checked once; raises ConfigError as `Partition` does."""
    return Partition(ranks=ranks, steps=steps, discount=discount, min_width=min_width, split_count=split_count)


def _bin(axis: tuple[int, ...], value: int) -> int:
    return max(0, bisect_right(axis, value) - 1)


def _width(axis: tuple[int, ...], first: int, last: int) -> float:
    """Share of the log2 axis from bin `first` to the bin before `last`; 0 for a single bin."""
    if last - first < 2:
        return 0.0
    return math.log2(axis[last - 1] / axis[first]) / math.log2(axis[-1] / axis[0])


def _meets(bins: Sequence[float], candidates: Sequence[int]) -> bool:
    """Whether [first, last) holds one of the `candidates`, which ascend."""
    index = bisect_left(candidates, bins[0])
    return index < len(candidates) and candidates[index] < bins[1]
