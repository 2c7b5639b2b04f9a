"""What a virtual device has measured of itself before it joins: about the truth, and the same for a seed."""

import math
from statistics import NormalDist

from fedcore.core.contract.profile import SelfMeasurement
from fedcore.core.seeds import uniform

CLOCK_SIGMA = 0.05  # of the measurement of a processor, lognormal
_NORMAL = NormalDist()


def drawn_trial(
    seed: int, *device: str | int, gflops: float, downlink_mbps: float, uplink_mbps: float, link_sigma: float
) -> SelfMeasurement:
    """Return the trial of a device of these true speeds, its links as they were at one moment; `device` names it."""

    def measured(true: float, sigma: float, what: str) -> float:
        return true * math.exp(sigma * _NORMAL.inv_cdf(uniform(seed, "trial", what, *device)))

    return SelfMeasurement(
        gflops=measured(gflops, CLOCK_SIGMA, "compute"),
        downlink_mbps=measured(downlink_mbps, link_sigma, "downlink"),
        uplink_mbps=measured(uplink_mbps, link_sigma, "uplink"),
    )
