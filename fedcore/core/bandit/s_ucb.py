"""S-UCB, reconstructed: upper confidence bounds over a tree partition of (sparsity, log2 rank, log2 steps).

FedSpine (Yao et al., 2025, arXiv 2501.02438) chooses pruning ratio and LoRA rank per device with a bandit that
partitions the continuous space and refines it where rewards are good. Its exact form is not public. This one is
reconstructed from the E-UCB of its ancestor FedMP (Jiang et al., ICDE 2022), in two dimensions (three where local steps
are a choice as well) and with discounted counts (Garivier and Moulines, 2011, arXiv 0805.3415):

    U(l) = mu(l) + c sqrt(2 ln(sum of all N) / N(l)),   mu(l) = reward sum / N(l)

Unseen leaves come first. The arm is drawn uniformly from the feasible part of the best leaf. The tree is
`fedcore.core.bandit.tree`: it discounts counts and splits leaves. SPLIT_COUNT, chosen by measurement on synthetic
rewards, keeps the tree small enough for the discount. A discount of 0.95 remembers 20 observations; with one leaf per
observation every leaf looked unexplored, and the bandit did no better than random.
"""

import math
from dataclasses import dataclass

import numpy as np

from fedcore.core.bandit.tree import SPLIT_COUNT, Box, Partition, partition
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace, Json
from fedcore.core.errors import ConfigError

UNSEEN = 1e-9  # a leaf with at most this count is unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class SUcb:
    """The policy; its state is {"leaves": [the fields of `fedcore.core.bandit.tree.Box`, ...]}."""

    ranks: tuple[int, ...]  # ascending
    steps: tuple[int, ...] = NO_STEPS  # ascending
    discount: float = 0.95  # in (0, 1], per observation
    exploration: float = 0.2  # c >= 0
    min_width: float = 0.1  # in (0, 1], share of an axis
    split_count: float = SPLIT_COUNT
    name: str = "s-ucb"

    def __post_init__(self) -> None:
        if not self.exploration >= 0:
            raise ConfigError(f"s-ucb: expected exploration >= 0, got {self.exploration}")
        _ = self._tree  # raises ConfigError

    @property
    def _tree(self) -> Partition:
        return partition(self.ranks, self.steps, self.discount, self.min_width, self.split_count)

    def start(self) -> Json:
        """Return one unseen leaf that holds every arm."""
        return {"leaves": self._tree.start()}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return an arm in `space`, drawn uniformly from the part of the best leaf inside it; `rng` breaks ties."""
        leaves = self._tree.inside(state["leaves"], space)
        observations = sum([values[4] for values in state["leaves"]])  # discounted
        spread = 2 * math.log(max(1.0, observations))
        bounds = [self._bound(leaf, spread) for leaf in leaves]
        highest = max(bounds)
        best = [leaf for leaf, bound in zip(leaves, bounds, strict=True) if bound == highest]
        return self._tree.draw(best[int(rng.integers(len(best)))], space, rng)

    def observe(self, state: Json, arm: Arm, reward: float, context: tuple[float, ...] = ()) -> Json:
        """Return the state after `arm`, as realised, earned `reward`; the leaf that holds it may split."""
        return {"leaves": self._tree.observe(state["leaves"], arm, reward)}

    def _bound(self, leaf: Box, spread: float) -> float:
        if leaf.pulls <= UNSEEN:
            return math.inf
        return leaf.total / leaf.pulls + self.exploration * math.sqrt(spread / leaf.pulls)
