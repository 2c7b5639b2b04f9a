"""LoRA ranks by the speed of a device's class: the slowest class has the smallest rank, the fastest the largest."""

from collections.abc import Mapping

from fedcore.core.config.tables import ClassConfig, Config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.strategies.policy.cost import RoundCost


def ranks_by_speed(config: Config, cost: RoundCost) -> Mapping[str, tuple[int, ...]]:
    """Return the ranks that devices of each configured class may have, ascending; the last one is its own.

    Classes are ordered by the modelled time of a round of the whole model at the largest rank, link and compute, and
    spread evenly over `strategy.ranks`; equal times have equal ranks. Smaller ranks stay for devices whose memory does
    not hold the class's own.
    """
    ranks, dense = config.strategy.ranks, cost.spec.geometry.dense
    times = {each.name: cost.seconds(_profile(each), dense, ranks[-1]) for each in config.classes}
    levels = sorted(set(times.values()))  # fastest first
    last = len(ranks) - 1
    own = {time: last - round(place * last / max(1, len(levels) - 1)) for place, time in enumerate(levels)}
    return {name: ranks[: own[time] + 1] for name, time in times.items()}


def _profile(each: ClassConfig) -> DeviceProfile:
    return DeviceProfile(
        name=each.name,
        device_class=each.name,
        num_examples=1,
        slowdown=each.slowdown,
        uplink_mbps=each.uplink_mbps,
        downlink_mbps=each.downlink_mbps,
    )
