"""The terms of a round's distillation: what a pruned student learns from the dense model that it was cut from.

The teacher is the uncut base model with the adapter that was handed out, at the device's own rank: the device's model
without the cut. Its share grows over the run, as in TAID (Shing et al., "TAID: temporally adaptive
interpolated distillation", ICLR 2025, arXiv 2501.16937), here not adaptively but linearly over rounds:

    t = (round - warm-up rounds) / (rounds - warm-up rounds)

is 0 until the first cut and 1, plain distillation, in the last round.
"""

from dataclasses import dataclass

from fedcore.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """loss = (1 - weight) CE + weight KL(p_t || p_student): see `fedcore.nn.training.objective`."""

    weight: float  # in (0, 1]
    temperature: float  # > 0, of both distributions
    mix: float  # t in [0, 1], the teacher's share of the interpolated logits

    def __post_init__(self) -> None:
        if not (0.0 < self.weight <= 1.0 and self.temperature > 0.0 and 0.0 <= self.mix <= 1.0):
            raise ConfigError(
                "distillation: expected weight in (0, 1], temperature > 0 and mix in [0, 1], got "
                f"{self.weight}, {self.temperature} and {self.mix}"
            )


def mix_of(round_index: int, *, warmup_rounds: int, rounds: int) -> float:
    """Return t of a round, counted from 1: 0 up to the warm-up's end, 1 in the last round and beyond."""
    if rounds <= warmup_rounds:
        return 0.0
    return min(1.0, max(0.0, (round_index - warmup_rounds) / (rounds - warmup_rounds)))
