"""The importance criteria by name, and their costs on a device. `fedcore/nn/criteria/` computes the scores."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """The costs of a criterion, in training steps, in a round with scores; and its state between rounds."""

    once: float = 0.0  # at the end of the round
    per_step: float = 0.0  # with every training step
    remembers: bool = False  # one number per group stays on the device
    own_steps: bool = False  # it changes the training steps, so that devices cannot share a pass

    def steps(self, local_steps: int) -> float:
        """Return the training steps that scoring adds to `local_steps`."""
        return self.once + self.per_step * local_steps


FORWARD = Criterion(once=0.5)  # the base is frozen: its backward pass costs about what its forward pass does

CRITERIA: Mapping[str, Criterion] = {
    "lora-taylor": Criterion(per_step=0.075, remembers=True),  # measured: 6-9 %
    "taylor": Criterion(once=1.5),  # a step that also forms the gradients of the frozen weights, block by block
    "magnitude": Criterion(),  # reads the weights once
    "wanda-sp": FORWARD,
    "flap": FORWARD,
    "amp": FORWARD,
    "random": Criterion(),
    "l0": Criterion(per_step=0.15, remembers=True, own_steps=True),  # measured: 10-30 %, gates on every layer
}
