"""Who takes part in a round."""

from collections.abc import Sequence

import numpy as np

from fedcore.core.contract.profile import DeviceProfile


def sample_cohort(roster: Sequence[DeviceProfile], size: int, rng: np.random.Generator) -> tuple[DeviceProfile, ...]:
    """Return `size` devices of `roster`, drawn uniformly without replacement and sorted by name; 0 takes all."""
    ordered = sorted(roster, key=lambda profile: profile.name)
    if size < 1 or size >= len(ordered):
        return tuple(ordered)
    drawn = rng.choice(len(ordered), size=size, replace=False)
    return tuple(ordered[index] for index in sorted(int(index) for index in drawn))
