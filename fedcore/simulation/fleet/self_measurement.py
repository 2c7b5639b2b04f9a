"""What a virtual device measures of itself before it joins: the true speeds times lognormal noise, by seed."""

import math
from statistics import NormalDist

from fedcore.core.contract.profile import SelfMeasurement
from fedcore.core.seeds import uniform

CLOCK_SIGMA = 0.05  # of log measured / true processor speed
_NORMAL = NormalDist()


def draw_self_measurement(
    seed: int, *device: str | int, gflops: float, downlink_mbps: float, uplink_mbps: float, link_sigma: float
) -> SelfMeasurement:
    """Return the self-measurement of a device of these true speeds; `device` names it and seeds the noise."""

    def measured(true: float, sigma: float, what: str) -> float:
        return true * math.exp(sigma * _NORMAL.inv_cdf(uniform(seed, "trial", what, *device)))

    return SelfMeasurement(
        gflops=measured(gflops, CLOCK_SIGMA, "compute"),
        downlink_mbps=measured(downlink_mbps, link_sigma, "downlink"),
        uplink_mbps=measured(uplink_mbps, link_sigma, "uplink"),
    )
