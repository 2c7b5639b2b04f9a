"""The virtual devices of a run: profiles, rows and what their classes say, without anything per device that grows."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fedcore.core.codec.grammar import PARTS
from fedcore.core.config.tables import ClassConfig, Config
from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement
from fedcore.core.contract.protocols import Strategy
from fedcore.core.errors import JoinRefused
from fedcore.core.seeds import uniform
from fedcore.simulation.fleet.availability import Span, Traces, online_spans
from fedcore.simulation.fleet.rows import Indices
from fedcore.simulation.fleet.self_measurement import drawn_trial

UNLIMITED_MBPS = 1e5  # what a device measures on a link without limit


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualDevice:
    """One device: who it is, and the rows it holds (positions among all training rows)."""

    profile: DeviceProfile
    kind: ClassConfig
    rows: Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualFleet:
    """All devices by name, in the order of the configuration."""

    devices: Mapping[str, VirtualDevice]
    seed: int
    traces: Traces | None = None

    def spans(self, name: str) -> Iterator[Span]:
        """When a device is online."""
        return online_spans(self.devices[name].kind, name, self.seed, self.traces)


def make_fleet(
    config: Config, dealt: Sequence[Indices], labels: Sequence[str], traces: Traces | None = None
) -> VirtualFleet:
    """Return the fleet whose devices hold the rows `dealt`; `labels` are those of all training rows."""
    devices = {}
    numbers = (number for kind in config.classes for number in range(kind.count))
    for (name, kind), number, rows in zip(config.devices(), numbers, dealt, strict=True):
        profile = DeviceProfile(
            name=name,
            device_class=kind.name,
            num_examples=len(rows),
            memory_mb=kind.memory_mb,
            slowdown=kind.slowdown * (kind.power_modes[number % len(kind.power_modes)] if kind.power_modes else 1.0),
            uplink_mbps=_speed(kind.uplink_range_mbps, kind.uplink_mbps, name, config.run.seed),
            downlink_mbps=_speed(kind.downlink_range_mbps, kind.downlink_mbps, name, config.run.seed),
            label_counts=tuple(sorted(Counter(labels[row] for row in rows).items())),
            network=kind.network,
            codecs=PARTS,
        )
        profile = replace(profile, trial=_trial(config, kind, profile))
        devices[name] = VirtualDevice(profile=profile, kind=kind, rows=rows)
    return VirtualFleet(devices=devices, seed=config.run.seed, traces=traces)


def _speed(bounds: Sequence[float], same: float, device: str, seed: int) -> float:
    """Return the median speed of a device's link: where it stands decides both links, so one draw serves both."""
    if not bounds:
        return same
    slowest, fastest = bounds
    return float(slowest * (fastest / slowest) ** uniform(seed, "place", device))


def _trial(config: Config, kind: ClassConfig, profile: DeviceProfile) -> SelfMeasurement:
    return drawn_trial(
        config.run.seed,
        profile.name,
        gflops=config.simulation.gflops / profile.slowdown,
        downlink_mbps=profile.downlink_mbps or UNLIMITED_MBPS,
        uplink_mbps=profile.uplink_mbps or UNLIMITED_MBPS,
        link_sigma=kind.link_sigma,
    )


def admitted(fleet: VirtualFleet, strategy: Strategy) -> tuple[VirtualFleet, dict[str, str]]:
    """Return the fleet without the devices the strategy refuses, and why it does, by class."""
    refused: dict[str, str] = {}
    fit: dict[str, bool] = {}  # memory is a class's, so one look at each is enough
    for device in fleet.devices.values():
        if device.kind.name not in fit:
            try:
                strategy.admit(device.profile)
                fit[device.kind.name] = True
            except JoinRefused as error:
                fit[device.kind.name] = False
                refused[device.kind.name] = str(error)
    kept = {name: each for name, each in fleet.devices.items() if fit[each.kind.name]}
    return VirtualFleet(devices=kept, seed=fleet.seed, traces=fleet.traces), refused
