"""A trial of learning rates on a device: from one start, a few steps at each rate, and the losses afterwards."""

import math
from dataclasses import dataclass

from fedcore.core.errors import ConfigError

PROBE_BATCHES = 2  # of rows that no step of the trial has seen; every loss is measured on them
DIVERGED = 1e3  # nats; reported in place of a loss that is not finite
FORWARD_SHARE = 1 / 3  # of a training step that a forward pass takes


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTrial:
    """The rates that a device tries, `steps` optimiser steps each. Raises ConfigError outside of the ranges."""

    rates: tuple[float, ...]  # of AdamW, each above 0
    steps: int  # at least 1

    def __post_init__(self) -> None:
        if not self.rates or not all(rate > 0 and math.isfinite(rate) for rate in self.rates):
            raise ConfigError(f"a trial needs learning rates above 0, got {list(self.rates)}")
        if self.steps < 1:
            raise ConfigError(f"a trial needs at least 1 step, got {self.steps}")

    @property
    def taken_steps(self) -> int:
        """The optimiser steps of all rates together."""
        return len(self.rates) * self.steps

    @property
    def cost_steps(self) -> float:
        """The time of the trial, in training steps: its steps, and the forward passes that measure the losses."""
        return self.taken_steps + (len(self.rates) + 1) * PROBE_BATCHES * FORWARD_SHARE
