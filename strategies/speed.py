"""How fast a device is: what it measured of itself, smoothed, or what its profile says.

A device's speeds are factors between the cost model's demand (strategies.cost) and seconds:

    seconds = compute * train_s + down * down_bytes + up * up_bytes + other

State, a JSON value: {"devices": {name: [compute, down, up, other]}, "classes": {class: the same, of its slower ones}}.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fedcore.device import transfer_seconds
from fedcore.outcome import Outcome, Status
from fedcore.profile import DeviceProfile
from fedcore.protocols import Json
from strategies.cost import Demand

# Weights of a device's newest measurement, by factor. It is asked only every few rounds: a changed power mode must show
# at once, while links vary around a median.
DEVICE_WEIGHTS = (0.8, 0.3, 0.3, 0.3)
# Of a class's, where it shows a slower device than was thought, and a faster one: a stranger is taken to be slower than
# its class's mean, for a whole cohort waits for who was overrated, and nobody for who was underrated.
SLOWER_WEIGHT, FASTER_WEIGHT = 0.5, 0.1


class Speed(NamedTuple):
    """Factors of one device; the defaults are a device without slowdown on links without limit."""

    compute: float = 1.0  # measured / modelled seconds of training
    down: float = 0.0  # seconds per modelled byte
    up: float = 0.0
    other: float = 0.0  # seconds of a round that are none of these

    def seconds(self, demand: Demand) -> float:
        """Return the predicted seconds of a round."""
        links = self.down * demand.down_bytes + self.up * demand.up_bytes
        return self.compute * demand.train_s + links + self.other


def told_speed(profile: DeviceProfile) -> Speed:
    """Return the speed that a device's profile says: true where slowdown and links are emulated or simulated."""
    return Speed(
        compute=profile.slowdown,
        down=transfer_seconds(1.0, profile.downlink_mbps),
        up=transfer_seconds(1.0, profile.uplink_mbps),
    )


def known_speed(speeds: Json, profile: DeviceProfile) -> Speed | None:
    """Return what was learned of a device, else of its class, else None."""
    found = speeds["devices"].get(profile.name) or speeds["classes"].get(profile.device_class)
    return None if found is None else Speed(*found)


def measured_speed(outcome: Outcome, demand: Demand) -> Speed | None:
    """Return the speed that an accepted update shows; None where it shows none."""
    if outcome.status is not Status.ACCEPTED or outcome.report is None:
        return None
    phases = outcome.report.phase_s
    train, down, up = (phases.get(phase, 0.0) for phase in ("train", "download", "upload"))
    if not (all(map(math.isfinite, (train, down, up, outcome.time_s))) and train > 0 and min(down, up) >= 0):
        return None
    return Speed(
        compute=train / demand.train_s,
        down=down / demand.down_bytes,
        up=up / demand.up_bytes,
        other=max(0.0, outcome.time_s - train - down - up),
    )


def learn_speeds(speeds: Json, measured: Mapping[str, tuple[str, Speed]]) -> Json:
    """Return the state after a round; `measured` maps device to its class and speed."""
    devices, classes = dict(speeds["devices"]), dict(speeds["classes"])
    for device, (device_class, speed) in sorted(measured.items()):
        devices[device] = _blend(devices.get(device), speed, DEVICE_WEIGHTS)
        known = classes.get(device_class)
        uneven = [SLOWER_WEIGHT if new > old else FASTER_WEIGHT for new, old in zip(speed, known or speed, strict=True)]
        classes[device_class] = _blend(known, speed, uneven)
    return {"devices": dict(sorted(devices.items())), "classes": dict(sorted(classes.items()))}


def no_speeds() -> Json:
    """Return the state before anything was measured."""
    return {"devices": {}, "classes": {}}


def _blend(before: Sequence[float] | None, speed: Speed, weights: Sequence[float]) -> list[float]:
    if before is None:
        return [_short(each) for each in speed]
    return [_short((1 - weight) * old + weight * new) for old, new, weight in zip(before, speed, weights, strict=True)]


def _short(value: float) -> float:
    """Return a value with seven digits: there are four for every device, in a state that is stored every round."""
    return float(f"{value:.7g}")
