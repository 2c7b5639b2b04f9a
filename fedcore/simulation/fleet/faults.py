"""What befalls a virtual device in one assignment: drawn from the seed alone, whatever happens to others."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from fedcore.core.config.tables import ClassConfig
from fedcore.core.seeds import uniform

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDraw:
    """Factors of both links' speed, and where in its work the device fails or vanishes: a share in (0, 1), or never."""

    uplink: float = 1.0
    downlink: float = 1.0
    fails_at: float | None = None
    vanishes_at: float | None = None


_NOTHING = FaultDraw()


def draw_luck(
    kind: ClassConfig, device: str, *, round_index: int, attempt: int, seed: int, now_s: float = 0.0
) -> FaultDraw:
    """Return the luck of a device's `attempt` (from 0) at the assignment of a round, which it gets at `now_s`."""
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
    """Return a standard normal number that drifts: a new draw at every whole period, an arc between two of them.

    The arc's two weights are the cosine and sine of one angle, so that the spread is 1 at every moment.
    """
    number, angle = math.floor(periods), (periods % 1.0) * math.pi / 2
    before, after = (_NORMAL.inv_cdf(uniform(seed, "drift", what, device, each)) for each in (number, number + 1))
    return math.cos(angle) * before + math.sin(angle) * after
