"""The virtual devices of a run: profile, class and rows of each. Nothing here grows with the rounds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fedcore.core.codec.grammar import PARTS
from fedcore.core.config.tables import ClassConfig, Config
from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement
from fedcore.core.contract.protocols import Strategy
from fedcore.core.data.partition import Indices
from fedcore.core.errors import JoinRefused
from fedcore.core.seeds import uniform
from fedcore.core.tasks.table import task_of
from fedcore.simulation.fleet.availability import Span, Traces, online_spans
from fedcore.simulation.fleet.self_measurement import draw_self_measurement

UNLIMITED_MBPS = 1e5  # the measured speed of a link without limit


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualDevice:
    """One device: its profile, its class, and the positions of its rows among all training rows."""

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
        """Yield the spans in which a device is online."""
        return online_spans(self.devices[name].kind, name, self.seed, self.traces)


def make_fleet(
    config: Config, shards: Sequence[Indices], labels: Sequence[str], traces: Traces | None = None
) -> VirtualFleet:
    """Return the fleet; `shards` are the rows of its devices in order, `labels` their target column."""
    devices, task = {}, task_of(config)
    numbers = (number for kind in config.classes for number in range(kind.count))
    for (name, kind), number, rows in zip(config.devices(), numbers, shards, strict=True):
        profile = DeviceProfile(
            name=name,
            device_class=kind.name,
            num_examples=len(rows),
            memory_mb=kind.known_memory_mb,
            slowdown=kind.slowdown * (kind.power_modes[number % len(kind.power_modes)] if kind.power_modes else 1.0),
            uplink_mbps=_speed(kind.uplink_range_mbps, kind.uplink_mbps, name, config.run.seed),
            downlink_mbps=_speed(kind.downlink_range_mbps, kind.downlink_mbps, name, config.run.seed),
            label_counts=task.counts(labels[row] for row in rows),
            network=kind.network,
            codecs=PARTS,
        )
        profile = replace(profile, trial=_self_measurement(config, kind, profile))
        devices[name] = VirtualDevice(profile=profile, kind=kind, rows=rows)
    return VirtualFleet(devices=devices, seed=config.run.seed, traces=traces)


def _speed(bounds: Sequence[float], same: float, device: str, seed: int) -> float:
    """Return the median speed of a device's link; one draw serves both links, for the device's place decides both."""
    if not bounds:
        return same
    slowest, fastest = bounds
    return float(slowest * (fastest / slowest) ** uniform(seed, "place", device))


def _self_measurement(config: Config, kind: ClassConfig, profile: DeviceProfile) -> SelfMeasurement:
    return draw_self_measurement(
        config.run.seed,
        profile.name,
        gflops=config.simulation.gflops / profile.slowdown,
        downlink_mbps=profile.downlink_mbps or UNLIMITED_MBPS,
        uplink_mbps=profile.uplink_mbps or UNLIMITED_MBPS,
        link_sigma=kind.link_sigma,
    )


def admitted(fleet: VirtualFleet, strategy: Strategy) -> tuple[VirtualFleet, dict[str, str]]:
    """Return the fleet without the devices that the strategy refuses, and the reasons by class."""
    refused: dict[str, str] = {}
    fit: dict[str, bool] = {}  # by class: all its devices have the same memory
    for device in fleet.devices.values():
        if device.kind.name not in fit:
            try:
                strategy.admit(device.profile)
                fit[device.kind.name] = True
            except JoinRefused as error:
                fit[device.kind.name] = False
                refused[device.kind.name] = str(error)
    kept = {name: device for name, device in fleet.devices.items() if fit[device.kind.name]}
    return VirtualFleet(devices=kept, seed=fleet.seed, traces=fleet.traces), refused
