"""The fault model: link speeds, failures and dropouts of one assignment, drawn from the seed alone.

A draw depends on seed, device, round and attempt, never on what happens to other devices: a resumed run draws the same
faults. Link factors are lognormal with median 1; failure and dropout happen at a uniform moment of the work.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from fedcore.core.config.tables import ClassConfig
from fedcore.core.seeds import uniform

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDraw:
    """Factors on both links' speed, and the share of the work, in (0, 1), at which the device fails or vanishes."""

    uplink: float = 1.0
    downlink: float = 1.0
    fails_at: float | None = None
    vanishes_at: float | None = None


_NOTHING = FaultDraw()


def draw_faults(
    kind: ClassConfig, device: str, *, round_index: int, attempt: int, seed: int, now_s: float = 0.0
) -> FaultDraw:
    """Return the faults of a device's `attempt` (from 0) at the assignment of a round, which starts at `now_s`."""
    if not (kind.link_sigma or kind.dropout or kind.failure):
        return _NOTHING

    def draw(what: str) -> float:
        return uniform(seed, "luck", what, round_index, attempt, device)

    def speed(what: str) -> float:
        if not kind.link_sigma:
            return 1.0
        if kind.link_period_s:
            return math.exp(kind.link_sigma * _drifting(seed, what, device, now_s / kind.link_period_s))
        return math.exp(kind.link_sigma * _NORMAL.inv_cdf(draw(what)))

    def moment(what: str, share: float) -> float | None:
        return draw(f"{what}-at") if share and draw(what) < share else None

    return FaultDraw(
        uplink=speed("uplink"),
        downlink=speed("downlink"),
        fails_at=moment("failure", kind.failure),
        vanishes_at=moment("dropout", kind.dropout),
    )


def _drifting(seed: int, what: str, device: str, periods: float) -> float:
    """Return a standard normal number that drifts with time: one draw per whole period, interpolated in between.

    The two weights are cosine and sine of one angle. Their squares sum to 1, so the variance is 1 at every moment.
    """
    number, angle = math.floor(periods), (periods % 1.0) * math.pi / 2
    before, after = (_NORMAL.inv_cdf(uniform(seed, "drift", what, device, period)) for period in (number, number + 1))
    return math.cos(angle) * before + math.sin(angle) * after
