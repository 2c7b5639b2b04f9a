"""S-UCB, reconstructed: upper confidence bounds over a tree partition of (sparsity, log2 rank).

FedSpine (Yao et al., 2025, arXiv 2501.02438) chooses pruning ratio and LoRA rank per device with a bandit that
partitions the continuous space and refines it where rewards are good. Its exact form is not public. This one is
rebuilt from the E-UCB of its ancestor FedMP (Jiang et al., ICDE 2022), in two dimensions and with discounted counts
(Garivier and Moulines, 2011, arXiv 0805.3415). After each observation every leaf's N and reward sum are
multiplied by the discount; then

    U(l) = mu(l) + c sqrt(2 ln(sum of all N) / N(l)),   mu(l) = reward sum / N(l)

Unseen leaves come first; the arm is uniform in the part of the best leaf that is feasible. The leaf that holds the
observed arm is split at it, across its widest normalised side, while that side is wider than `min_width` and the
leaf's N is at least SPLIT_COUNT.

Ours, and chosen by measurement on synthetic rewards: the two children inherit their parent's mean and half of its N
each (the newest observation lies on their border, so it speaks for both). A split thus changes no mean and no sum of
N and needs no history. SPLIT_COUNT keeps the tree as small as the discount can feed: a discount of 0.95 remembers 20
observations, and spread over a leaf per observation they made every leaf look unexplored, no better than random.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedcore.assignment import Arm
from fedcore.errors import ConfigError
from fedcore.protocols import ArmSpace, Json

UNSEEN = 1e-9  # a count this small is no knowledge
SPLIT_COUNT = 3.0  # discounted observations a leaf needs before it may split


class Leaf(NamedTuple):
    """A box of arms: sparsity in [low, high), rank bins in [first, last), with discounted pulls and reward."""

    low: float
    high: float
    first: int
    last: int
    pulls: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SUcb:
    """The policy; its state is {"leaves": [[low, high, first, last, count, total], ...]}.

    Rank bin i holds the ranks from `ranks[i]` up to, not including, `ranks[i + 1]`; the first also holds all below, the
    last all above. So every rank lies in exactly one leaf, also one that is not in `ranks`.
    """

    ranks: tuple[int, ...]  # ascending
    discount: float = 0.95  # in (0, 1], per observation
    exploration: float = 0.2  # c >= 0
    min_width: float = 0.1  # in (0, 1], share of an axis
    name: str = "s-ucb"

    def __post_init__(self) -> None:
        if not self.ranks or list(self.ranks) != sorted(set(self.ranks)) or self.ranks[0] < 1:
            raise ConfigError(f"s-ucb: expected ascending ranks of at least 1, got {self.ranks}")
        if not (0 < self.discount <= 1 and self.exploration >= 0 and 0 < self.min_width <= 1):
            raise ConfigError(
                f"s-ucb: expected discount in (0, 1], exploration >= 0 and min_width in (0, 1]; "
                f"got {self.discount}, {self.exploration}, {self.min_width}"
            )

    def start(self) -> Json:
        """Return one unseen leaf that holds every arm."""
        return {"leaves": [list(Leaf(low=0.0, high=1.0, first=0, last=len(self.ranks)))]}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return an arm in `space`, drawn uniformly from the part of the best leaf inside it; ties fall by `rng`."""
        bins = [self._bin(rank) for rank in space.ranks]
        # As in `observe`, only leaves that matter become values of their own.
        open_leaves = [
            Leaf(*values)
            for values in state["leaves"]
            if values[0] <= space.sparsity_high and space.sparsity_low < values[1] and _meets(values[2:4], bins)
        ]
        known = sum([values[4] for values in state["leaves"]])
        spread = 2 * math.log(max(1.0, known))
        bounds = [self._bound(leaf, spread) for leaf in open_leaves]
        highest = max(bounds)
        best = [leaf for leaf, bound in zip(open_leaves, bounds, strict=True) if bound == highest]
        leaf = best[int(rng.integers(len(best)))]
        low, high = max(leaf.low, space.sparsity_low), min(leaf.high, space.sparsity_high)
        ranks = [rank for rank, i in zip(space.ranks, bins, strict=True) if leaf.first <= i < leaf.last]
        sparsity = min(high, max(low, float(rng.uniform(low, high))))
        if sparsity == leaf.high:
            sparsity = low  # rounding must not leave the half-open leaf
        return Arm(sparsity=sparsity, rank=ranks[int(rng.integers(len(ranks)))])

    def observe(self, state: Json, arm: Arm, reward: float) -> Json:
        """Return the state after `arm`, as realised, earned `reward`; the leaf that holds it may split."""
        if not 0.0 <= reward <= 1.0:
            raise ConfigError(f"s-ucb: expected a reward in [0, 1], got {reward}")
        rank_bin, sparsity, discount = self._bin(arm.rank), arm.sparsity, self.discount
        after: list[list[float]] = []
        # Plain lists: there are up to some dozens of leaves, and every device of every round is observed.
        for low, high, first, last, count, total in state["leaves"]:
            if low <= sparsity < high and first <= rank_bin < last:
                hit = Leaf(low, high, first, last, count * discount + 1, total * discount + reward)
                after += [list(leaf) for leaf in self._split(hit, sparsity, rank_bin)]
            else:
                after.append([low, high, first, last, count * discount, total * discount])
        return {"leaves": after}

    def _bin(self, rank: int) -> int:
        return max(0, bisect_right(self.ranks, rank) - 1)

    def _bound(self, leaf: Leaf, spread: float) -> float:
        if leaf.pulls <= UNSEEN:
            return math.inf
        return leaf.total / leaf.pulls + self.exploration * math.sqrt(spread / leaf.pulls)

    def _rank_width(self, first: int, last: int) -> float:
        """Share of the log2 rank axis from bin `first` to the bin before `last`; 0 for a single bin."""
        span = math.log2(self.ranks[-1] / self.ranks[0])
        return math.log2(self.ranks[last - 1] / self.ranks[first]) / span if span else 0.0

    def _split(self, leaf: Leaf, sparsity: float, rank_bin: int) -> list[Leaf]:
        """Cut at the arm: sparsities below it from the rest, or its rank from the next one in the leaf."""
        wide, tall = leaf.high - leaf.low, self._rank_width(leaf.first, leaf.last)
        if max(wide, tall) <= self.min_width or leaf.pulls < SPLIT_COUNT:
            return [leaf]
        half = leaf._replace(pulls=leaf.pulls / 2, total=leaf.total / 2)
        if wide >= tall and sparsity > leaf.low:
            return [half._replace(high=sparsity), half._replace(low=sparsity)]
        if leaf.last - leaf.first > 1:
            edge = max(rank_bin, leaf.first + 1)
            return [half._replace(last=edge), half._replace(first=edge)]
        return [leaf]


def _meets(rank_bins: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether [first, last) holds one of the `wanted`, ascending."""
    first, last = rank_bins
    index = bisect_left(wanted, first)
    return index < len(wanted) and wanted[index] < last
