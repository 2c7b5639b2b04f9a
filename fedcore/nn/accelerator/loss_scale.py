"""The factor of the loss in float16, in whose range small gradients are zero and large ones infinite.

A step with an infinite gradient is left out, and halves the factor; GROWTH_STEPS sound steps in a row double it. So
does PyTorch's GradScaler. Here the norm of the gradients, which is read in every step anyway, says whether one is
infinite, so no further wait for the accelerator is needed.

Source: Micikevicius et al., "Mixed precision training", 2018, arXiv 1710.03740, section 3.2.
"""

from collections.abc import Sequence

import torch

from fedcore.core.precision import FLOAT16

FIRST = 2.0**12  # a round has few steps: a factor that is too large would cost the first ones
LARGEST = 2.0**24
GROWTH_STEPS = 50


class LossScale:
    """The factor in `value`; always 1 outside of float16."""

    def __init__(self, precision: str) -> None:
        self.active = precision == FLOAT16
        self.value = FIRST if self.active else 1.0
        self._sound = 0  # steps since the factor changed

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the loss to call `backward` of."""
        return loss * self.value if self.active else loss

    def unscale(self, parameters: Sequence[torch.Tensor]) -> None:
        """Divide the parameters' gradients by the factor."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.active and gradients:
            torch._foreach_mul_(gradients, 1.0 / self.value)

    def settle(self, *, finite: bool) -> bool:
        """Learn from a step whether its gradients were finite; return False where the search is at its end.

        It ends where a factor below 1 is not small enough: then the gradients do not fit into float16.
        """
        if not self.active:
            return finite
        if not finite:
            self.value, self._sound = self.value / 2, 0
            return self.value >= 1.0
        self._sound += 1
        if self._sound == GROWTH_STEPS:
            self.value, self._sound = min(LARGEST, self.value * 2), 0
        return True
