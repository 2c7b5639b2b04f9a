"""How fast a device is: what its rounds showed, smoothed; before the first, what it measured of itself as it joined.

A device's speeds are factors between the cost model's demand (fedcore.strategies.policy.cost) and seconds:

    seconds = compute * train_s + down * down_bytes + up * up_bytes + other

State, a JSON value: {"devices": {name: [compute, down, up, other]}, "classes": {class: the same, of its slower ones},
"trials": [compute, down, up]: by what factor rounds turned out slower than devices' own trials}.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement
from fedcore.core.contract.protocols import Json
from fedcore.core.cost.training_step import transfer_seconds
from fedcore.strategies.policy.cost import Demand

# Weights of a device's newest measurement, by factor. It is asked only every few rounds: a changed power mode must show
# at once, while links vary around a median.
DEVICE_WEIGHTS = (0.8, 0.3, 0.3, 0.3)
# Of a class's, where it shows a slower device than was thought, and a faster one: a stranger is taken to be slower than
# its class's mean, for a whole cohort waits for who was overrated, and nobody for who was underrated.
SLOWER_WEIGHT, FASTER_WEIGHT = 0.5, 0.1
TRIAL_WEIGHT = 0.2  # of the newest first round, in what the next trials are multiplied by: geometrically


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


Tried = tuple[float | None, float | None, float | None]  # compute, down and up by a device's trial; None: not tried
UNTRIED: Tried = (None, None, None)


class Measured(NamedTuple):
    """What a round showed of a device, beside what its trial had said (`tried_speed`)."""

    device_class: str
    speed: Speed
    tried: Tried = UNTRIED


def told_speed(profile: DeviceProfile) -> Speed:
    """Return the speed that a device's profile says: true where slowdown and links are emulated or simulated."""
    return Speed(
        compute=profile.slowdown,
        down=transfer_seconds(1.0, profile.downlink_mbps),
        up=transfer_seconds(1.0, profile.uplink_mbps),
    )


def tried_speed(trial: SelfMeasurement, flops_per_s: float) -> Tried:
    """Return compute, down and up of a device's own trial, None where it has none; `flops_per_s` is the cost model's.

    An uplink that was not tried is taken to be as fast as the downlink.
    """
    down = trial.downlink_mbps or trial.uplink_mbps
    up = trial.uplink_mbps or trial.downlink_mbps
    return (
        flops_per_s / (trial.gflops * 1e9) if trial.gflops else None,
        transfer_seconds(1.0, down) if down else None,
        transfer_seconds(1.0, up) if up else None,
    )


def known_speed(speeds: Json, profile: DeviceProfile, tried: Tried) -> Speed | None:
    """Return what was learned of a device, else what its trial and its class tell, factor by factor, else None."""
    own = speeds["devices"].get(profile.name)
    if own is not None:
        return Speed(*own)
    of_class = speeds["classes"].get(profile.device_class)
    factors = [
        (of_class[place] if of_class else None) if each is None else each * speeds["trials"][place]
        for place, each in enumerate(tried)
    ]
    compute, down, up = factors
    if compute is None or down is None or up is None:
        return None
    return Speed(compute=compute, down=down, up=up, other=of_class[3] if of_class else 0.0)


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


def learn_speeds(speeds: Json, measured: Mapping[str, Measured]) -> Json:
    """Return the state after a round, from what it showed of each device."""
    devices, classes, trials = dict(speeds["devices"]), dict(speeds["classes"]), list(speeds["trials"])
    for device, (device_class, speed, tried) in sorted(measured.items()):
        if device not in devices:
            trials = [_trusted(*each) for each in zip(trials, speed[:3], tried, strict=True)]
        devices[device] = _blend(devices.get(device), speed, DEVICE_WEIGHTS)
        known = classes.get(device_class)
        uneven = [SLOWER_WEIGHT if new > old else FASTER_WEIGHT for new, old in zip(speed, known or speed, strict=True)]
        classes[device_class] = _blend(known, speed, uneven)
    return {"devices": dict(sorted(devices.items())), "classes": dict(sorted(classes.items())), "trials": trials}


def no_speeds() -> Json:
    """Return the state before anything was measured."""
    return {"devices": {}, "classes": {}, "trials": [1.0, 1.0, 1.0]}


def _trusted(factor: float, shown: float, tried: float | None) -> float:
    """Return by how much to multiply the next trial, now that a first round has shown what one was worth."""
    if not tried or not shown:
        return factor
    return _short(factor ** (1 - TRIAL_WEIGHT) * (shown / tried) ** TRIAL_WEIGHT)


def _blend(before: Sequence[float] | None, speed: Speed, weights: Sequence[float]) -> list[float]:
    if before is None:
        return [_short(each) for each in speed]
    return [_short((1 - weight) * old + weight * new) for old, new, weight in zip(before, speed, weights, strict=True)]


def _short(value: float) -> float:
    """Return a value with seven digits: there are four for every device, in a state that is stored every round."""
    return float(f"{value:.7g}")
