"""The limits that decide when a run starts, when a round closes and when a run pauses."""

import math
from dataclasses import dataclass

from fedcore.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPolicy:
    """Limits of a run. Durations in seconds, all above 0."""

    total_rounds: int  # rounds that count; a void round is an attempt and does not
    quorum: float  # share of the cohort, in (0, 1]
    deadline_s: float  # from the moment a round opens
    lease_s: float  # silence after which a device is lost
    min_devices: int  # start once this many devices are here
    max_void_rounds: int  # this many in a row pause the run
    join_deadline_s: float  # how long to wait for devices before pausing

    def __post_init__(self) -> None:
        if not 0.0 < self.quorum <= 1.0:
            raise ConfigError(f"quorum must be in (0, 1], got {self.quorum}")
        for name in ("deadline_s", "lease_s", "join_deadline_s"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be a finite number of seconds above 0, got {value}")
        for name in ("total_rounds", "min_devices", "max_void_rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")

    def quorum_count(self, cohort_size: int) -> int:
        """Return how many updates a cohort of `cohort_size` must bring: ceil(quorum x size), at least 1."""
        # 0.55 * 100 is 55.00000000000001 in binary: without the slack, ceil would give 56.
        return max(1, math.ceil(self.quorum * cohort_size - 1e-9))
