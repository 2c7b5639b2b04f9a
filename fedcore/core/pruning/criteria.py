"""The importance criteria by name, and what they ask of a device. How they score: `fedcore/nn/criteria/`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """Costs in training steps, in a round in which scores are asked for, and what is kept between rounds."""

    once: float = 0.0  # at the end of the round
    per_step: float = 0.0  # with every training step
    remembers: bool = False  # one number per group stays on the device
    own_steps: bool = False  # training steps are others than without it, so that devices cannot share a pass

    def steps(self, local_steps: int) -> float:
        """Return what scoring adds to so many training steps."""
        return self.once + self.per_step * local_steps


FORWARD = Criterion(once=0.5)  # the base is frozen: its backward pass costs about what its forward pass does

CRITERIA: Mapping[str, Criterion] = {
    "lora-taylor": Criterion(per_step=0.075, remembers=True),  # measured: 6-9 %
    "taylor": Criterion(once=1.5),  # a step that also forms the gradients of the frozen weights, block by block
    "magnitude": Criterion(),  # one look at the weights
    "wanda-sp": FORWARD,
    "flap": FORWARD,
    "amp": FORWARD,
    "random": Criterion(),
    "l0": Criterion(per_step=0.15, remembers=True, own_steps=True),  # measured: 10-30 %, gates on every layer
}
