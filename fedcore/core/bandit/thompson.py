"""Thompson sampling over S-UCB's tree: a Beta posterior for every leaf, one draw from each, an arm of the best leaf.

Thompson, 1933. Rewards in [0, 1] are handled as in Agrawal and Goyal, 2012, arXiv 1111.1797, but without their
Bernoulli draw: the rewards themselves are counted (fractional Beta updates). Counts are discounted as in Raj and
Kalyani, 2017, arXiv 1707.09727. With a leaf's discounted pulls N and reward sum S (fedcore.core.bandit.tree),

    theta(l) ~ Beta(1 + S(l), 1 + N(l) - S(l)),   play argmax theta(l)
"""

from dataclasses import dataclass

import numpy as np

from fedcore.core.bandit.tree import SPLIT_COUNT, Partition, partition
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Thompson:
    """The policy; its state is {"leaves": [the fields of `fedcore.core.bandit.tree.Box`, ...]}."""

    ranks: tuple[int, ...]  # ascending
    steps: tuple[int, ...] = NO_STEPS  # ascending
    discount: float = 0.98  # in (0, 1], per observation
    min_width: float = 0.1  # in (0, 1], share of an axis
    split_count: float = SPLIT_COUNT
    name: str = "thompson"

    def __post_init__(self) -> None:
        _ = self._tree  # raises ConfigError

    @property
    def _tree(self) -> Partition:
        return partition(self.ranks, self.steps, self.discount, self.min_width, self.split_count)

    def start(self) -> Json:
        """Return one unseen leaf that holds every arm."""
        return {"leaves": self._tree.start()}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return a uniform arm of the leaf inside `space` with the highest draw."""
        leaves = self._tree.inside(state["leaves"], space)
        # Rounding may leave a sum slightly above its count.
        draws = [float(rng.beta(1.0 + leaf.total, 1.0 + max(0.0, leaf.pulls - leaf.total))) for leaf in leaves]
        return self._tree.draw(leaves[int(np.argmax(draws))], space, rng)

    def observe(self, state: Json, arm: Arm, reward: float, context: tuple[float, ...] = ()) -> Json:
        """Return the state after `arm`, as realised, earned `reward`; the context is not used."""
        return {"leaves": self._tree.observe(state["leaves"], arm, reward)}
