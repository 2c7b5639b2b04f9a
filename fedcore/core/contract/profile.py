"""The profile that a device presents when it joins."""

import math
import re
from dataclasses import dataclass

from fedcore.core.errors import ConfigError

NAME = re.compile(r"[a-z0-9-]{1,63}")


def check_name(name: str, what: str = "device name") -> str:
    """Return `name` if it matches [a-z0-9-]{1,63}, else raise ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{what} {name!r}: expected 1-63 characters of a-z, 0-9 and '-'")
    return name


def check_network(network: str, what: str = "network class") -> str:
    """Return `network` if it is empty (unknown) or a name, else raise ConfigError."""
    return network and check_name(network, what)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfMeasurement:
    """A device's measurement of itself before it joins; 0 is not measured. Raises ConfigError below 0."""

    gflops: float = 0.0  # 1e9 operations per second in training; emulated slowdown included
    downlink_mbps: float = 0.0  # megabits per second
    uplink_mbps: float = 0.0
    memory_scale: float = 0.0  # measured / modelled memory of a training step

    def __post_init__(self) -> None:
        for key in ("gflops", "downlink_mbps", "uplink_mbps", "memory_scale"):
            value = getattr(self, key)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"trial of a device: {key} must be a number of at least 0, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """A device's identity and limits. A limit of 0 means not limited.

    Raises ConfigError for an invalid name or network class, no training row, and limits that are negative or not
    finite.
    """

    name: str
    device_class: str
    num_examples: int
    memory_mb: float = 0.0  # limit on peak live tensor memory of a training step, MiB
    slowdown: float = 1.0  # emulated compute slowdown, >= 1
    uplink_mbps: float = 0.0  # megabits per second
    downlink_mbps: float = 0.0
    label_counts: tuple[tuple[str, int], ...] = ()  # training rows by label, sorted by label
    network: str = ""  # kind of its network, such as "5g" or "wifi"; empty is unknown
    codecs: tuple[str, ...] = ()  # codec parts it can encode; empty: those of the first version
    trial: SelfMeasurement = SelfMeasurement()
    precision: str = ""  # in which it computes, see fedcore.core.precision; empty: float32

    def __post_init__(self) -> None:
        check_name(self.name)
        check_name(self.device_class, "device class")
        check_network(self.network)
        if self.num_examples < 1:
            raise ConfigError(f"device {self.name} has no training row; give it at least one")
        for key, low in (("slowdown", 1), ("memory_mb", 0), ("uplink_mbps", 0), ("downlink_mbps", 0)):
            value = getattr(self, key)
            if not (value >= low and math.isfinite(value)):  # written so that NaN is refused too
                raise ConfigError(f"device {self.name}: {key} must be a number of at least {low}, got {value}")
