"""The bounds of sparsity over the rounds: warm-up, gradual cuts, recovery.

Between warm-up and recovery the feasible sparsity of a round lies between a linear floor and the cubic cap of
Zhu and Gupta, "To prune, or not to prune", 2017, arXiv 1710.01878, eq. 1 (the schedule LoRAPrune also uses).
"""

from dataclasses import dataclass

from fedcore.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Bounds on sparsity per round for one target; rounds count from 1.

    Round `warmup_rounds` + 1 is the first that may cut. `last_cut` is the first round with every device at the target;
    `recovery_rounds` rounds without a cut follow it. Where there are too few rounds for both, the recovery is shortened
    first: one cutting round stays if any round follows the warm-up. Where none follows (`rounds` <= `warmup_rounds`),
    the run cuts nothing, and only the export cuts to the target.
    """

    target: float
    warmup_rounds: int
    recovery_rounds: int
    rounds: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.target < 1.0:
            raise ConfigError(f"target sparsity must be in [0, 1), got {self.target}")
        if self.rounds < 1 or self.warmup_rounds < 0 or self.recovery_rounds < 0:
            raise ConfigError(
                f"schedule: expected rounds >= 1, warm-up and recovery >= 0; got {self.rounds} rounds, "
                f"{self.warmup_rounds} of warm-up, {self.recovery_rounds} of recovery"
            )

    @property
    def last_cut(self) -> int:
        """The round at which floor and cap reach the target; above `rounds` where only the export cuts."""
        return max(self.rounds - self.recovery_rounds, self.warmup_rounds + 1)

    def progress(self, round_index: int) -> float:
        """Return the share of the cutting rounds that `round_index` completes: 0 in warm-up, 1 from `last_cut`."""
        share = (round_index - self.warmup_rounds) / (self.last_cut - self.warmup_rounds)
        return min(1.0, max(0.0, share))

    def floor(self, round_index: int) -> float:
        """Return the least sparsity a device may have in this round: target * p, p = `progress`."""
        return self.target * self.progress(round_index)

    def cap(self, round_index: int) -> float:
        """Return the greatest sparsity a device may have in this round: target * (1 - (1 - p)^3)."""
        return self.target * (1.0 - (1.0 - self.progress(round_index)) ** 3)

    def cuts_ahead(self, round_index: int) -> bool:
        """Whether a cut comes after this round (so that scores measured in it still matter)."""
        return self.target > 0.0 and round_index < self.last_cut
