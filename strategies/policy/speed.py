"""A device's speed: smoothed measurements of its rounds; before the first round, its self-measurement at the join.

A device's speeds are factors between the cost model's demand (fedcore.strategies.policy.cost) and seconds:

    seconds = compute * train_s + down * down_bytes + up * up_bytes + other

Every factor is at least 0; a slower device has larger ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement
from fedcore.core.contract.protocols import Json
from fedcore.core.cost.training_step import transfer_seconds
from fedcore.core.text_enum import TextEnum
from fedcore.strategies.policy.cost import Demand
from fedcore.strategies.policy.device_table import DeviceTable

# Weights of a device's newest measurement, by factor. A device takes part only every few rounds, so a changed power
# mode must count at once, while links vary around a median.
DEVICE_WEIGHTS = (0.8, 0.3, 0.3, 0.3)
# Weights of a measurement in its class's speed, if it is slower and if it is faster than the class's. So a device
# without measurement counts as slower than its class's mean: a whole cohort waits for an overrated device, but not for
# an underrated one.
SLOWER_WEIGHT, FASTER_WEIGHT = 0.5, 0.1
SELF_WEIGHT = 0.2  # of the newest first round in the factors of self-measurements, a geometric mean


class SpeedSource(TextEnum):
    """The source of a device's speeds."""

    MEASURED = "measured"  # learned from the clocks of closed rounds; before the first, the device's self-measurement
    DECLARED = "declared"  # learned from the speeds in profiles, in place of clocks, so that runs repeat
    EXACT = "exact"  # the speeds in profiles, from the first round on; the pacer learns none


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


class SelfMeasured(NamedTuple):
    """Factors that a device measured before it joined; None where it did not measure."""

    compute: float | None = None
    down: float | None = None
    up: float | None = None


class SpeedSample(NamedTuple):
    """A device's speed in one round, and its self-measurement."""

    device_class: str
    speed: Speed
    self_measured: SelfMeasured = SelfMeasured()


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """The learned speeds: by device, by class (of its slower devices), and the factors of self-measurements.

    `self_factors` are compute, down and up: the factors by which rounds were slower than self-measurements.
    """

    devices: DeviceTable[Speed] = field(default_factory=lambda: DeviceTable(Speed))
    classes: Mapping[str, Speed] = field(default_factory=dict)
    self_factors: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @staticmethod
    def from_json(value: Json) -> "Speeds":
        """Return the speeds that `to_json` wrote."""
        compute, down, up = value["trials"]
        return Speeds(
            devices=DeviceTable(Speed, value["devices"]),
            classes={name: Speed(*factors) for name, factors in value["classes"].items()},
            self_factors=(compute, down, up),
        )

    def to_json(self) -> Json:
        """Return the JSON form: every speed is a list of its four factors."""
        return {
            "devices": self.devices.to_json(),
            "classes": {name: list(speed) for name, speed in self.classes.items()},
            "trials": list(self.self_factors),
        }


def declared_speed(profile: DeviceProfile) -> Speed:
    """Return the speed that a device's profile declares: true where slowdown and links are emulated or simulated."""
    return Speed(
        compute=profile.slowdown,
        down=transfer_seconds(1.0, profile.downlink_mbps),
        up=transfer_seconds(1.0, profile.uplink_mbps),
    )


def self_measured_speed(trial: SelfMeasurement, flops_per_s: float) -> SelfMeasured:
    """Return the factors of a device's own measurement; `flops_per_s` is the cost model's.

    An uplink without measurement counts as fast as the downlink, and a downlink as the uplink.
    """
    down = trial.downlink_mbps or trial.uplink_mbps
    up = trial.uplink_mbps or trial.downlink_mbps
    return SelfMeasured(
        compute=flops_per_s / (trial.gflops * 1e9) if trial.gflops else None,
        down=transfer_seconds(1.0, down) if down else None,
        up=transfer_seconds(1.0, up) if up else None,
    )


def predicted_speed(speeds: Speeds, profile: DeviceProfile, self_measured: SelfMeasured) -> Speed | None:
    """Return a device's own learned speed, else its self-measurement completed by its class's; None if a factor lacks.

    Every self-measured factor is multiplied by the learned factor of self-measurements.
    """
    if profile.name in speeds.devices:
        return speeds.devices[profile.name]
    of_class = speeds.classes.get(profile.device_class)
    compute, down, up = (
        (of_class[index] if of_class else None) if measured is None else measured * speeds.self_factors[index]
        for index, measured in enumerate(self_measured)
    )
    if compute is None or down is None or up is None:
        return None
    return Speed(compute=compute, down=down, up=up, other=of_class.other if of_class else 0.0)


def measured_speed(outcome: Outcome, demand: Demand) -> Speed | None:
    """Return the speed measured with an accepted update; None where it has no usable measurement."""
    if outcome.status is not Status.ACCEPTED or outcome.report is None:
        return None
    phases = outcome.report.phase_s
    train, down, up = (phases.get(phase, 0.0) for phase in ("train", "download", "upload"))
    if not (all(map(math.isfinite, (train, down, up, outcome.time_s))) and train > 0 and min(down, up) >= 0):
        return None
    other = max(0.0, outcome.time_s - train - down - up)
    return Speed(train / demand.train_s, down / demand.down_bytes, up / demand.up_bytes, other)


def learn_speeds(speeds: Speeds, samples: Mapping[str, SpeedSample]) -> Speeds:
    """Return the speeds after a round, from its sample of each device."""
    learned: dict[str, Speed] = {}
    classes, factors = dict(speeds.classes), speeds.self_factors
    for device, (device_class, speed, self_measured) in sorted(samples.items()):
        before = speeds.devices.get(device)
        if before is None:
            compute, down, up = map(_moved_factor, factors, speed[:3], self_measured)
            factors = compute, down, up
        learned[device] = _blend(before, speed, DEVICE_WEIGHTS)
        of_class = classes.get(device_class)
        pairs = zip(speed, of_class or speed, strict=True)
        weights = [SLOWER_WEIGHT if new > old else FASTER_WEIGHT for new, old in pairs]
        classes[device_class] = _blend(of_class, speed, weights)
    return Speeds(devices=speeds.devices.updated(learned), classes=dict(sorted(classes.items())), self_factors=factors)


def _moved_factor(factor: float, in_round: float, self_measured: float | None) -> float:
    """Return the factor of the next self-measurement, after a first round that measured `in_round`."""
    if not self_measured or not in_round:
        return factor
    return _short(factor ** (1 - SELF_WEIGHT) * (in_round / self_measured) ** SELF_WEIGHT)


def _blend(before: Speed | None, speed: Speed, weights: Sequence[float]) -> Speed:
    if before is None:
        return Speed(*map(_short, speed))
    mixed = [(1 - weight) * old + weight * new for old, new, weight in zip(before, speed, weights, strict=True)]
    return Speed(*map(_short, mixed))


def _short(value: float) -> float:
    """Return a value with seven digits: the state has four for every device, and is stored every round."""
    return float(f"{value:.7g}")
