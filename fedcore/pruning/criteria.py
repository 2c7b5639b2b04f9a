"""The importance criteria by name, and what scoring costs a device. How they score: `fedcore/nn/criteria/`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringCost:
    """In training steps, for a round in which scores are asked for."""

    once: float = 0.0  # at the end of the round
    per_step: float = 0.0  # with every training step

    def steps(self, local_steps: int) -> float:
        """Return what scoring adds to so many training steps."""
        return self.once + self.per_step * local_steps


FORWARD = ScoringCost(once=0.5)  # the base is frozen: its backward pass costs about what its forward pass does

CRITERIA: Mapping[str, ScoringCost] = {
    "lora-taylor": ScoringCost(per_step=0.075),  # measured: 6-9 %
    "taylor": ScoringCost(once=1.5),  # a step that also forms the gradients of the frozen weights, block by block
    "magnitude": ScoringCost(),  # one look at the weights
    "wanda-sp": FORWARD,
    "flap": FORWARD,
    "amp": FORWARD,
    "random": ScoringCost(),
}
