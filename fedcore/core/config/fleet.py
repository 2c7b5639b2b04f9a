"""[simulation], [fleet] and [[fleet.class]]: the devices of a run, and what stands between them and the coordinator."""

from dataclasses import dataclass
from typing import Annotated

from fedcore.core.accelerators import AUTO
from fedcore.core.config.keys import Unit, check_keys
from fedcore.core.config.list_rules import each, growing_tiers, speed_range
from fedcore.core.config.rules import above, at_least, device_name, one_of, valid_name, whole_number, within
from fedcore.core.contract.profile import check_name
from fedcore.core.precision import PRECISIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationConfig:
    """[simulation]: what `fedcore simulate` needs beside the run itself."""

    training: Annotated[
        str,
        one_of("batched", "one-by-one", "none"),
        "`batched`: many virtual devices in one pass, equal to one by one within 1e-5; `one-by-one`: the bits of real "
        "devices; `none`: losses from a curve, nothing is trained",
    ] = "batched"
    workers: Annotated[
        int,
        whole_number(0),
        "processes that train, with one thread each; 0: one per core where 32 devices or more train in a round on the "
        "CPU, else this process alone",
    ] = 0
    chunk_devices: Annotated[
        int,
        whole_number(1),
        Unit("devices"),
        "virtual devices trained and folded together, at most; memory grows with it",
    ] = 32
    rows_per_device: Annotated[
        int,
        whole_number(0),
        Unit("rows"),
        "0: `[data]` deals every row out once; else each device draws so many rows, which others may hold too, skewed "
        "as `data.partition` says",
    ] = 0
    gflops: Annotated[
        float,
        above(0),
        Unit("GFLOP/s"),
        "1e9 float32 operations per second of a device whose `slowdown` is 1",
    ] = 60.0
    trace: Annotated[
        str,
        "CSV with columns device, start_s, end_s: when devices are online. A device that is not in it never is; empty: "
        "as the devices' class says",
    ] = ""
    exports: Annotated[bool, "whether the run ends with one model per class"] = True
    curve: Annotated[str, 'run folder whose losses `training = "none"` is fitted to; empty: the built-in curve'] = ""

    def __post_init__(self) -> None:
        check_keys(self, "simulation.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """[fleet]: what stands between the devices and the coordinator."""

    edges: Annotated[
        tuple[int, ...],
        each(whole_number(1)),
        growing_tiers(),
        "edge aggregators of every tier from the top down: `[2]` is two between devices and coordinator, `[2, 4]` four "
        "below two; empty is none",
    ] = ()

    def __post_init__(self) -> None:
        check_keys(self, "fleet.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassConfig:
    """[[fleet.class]]: devices of one kind. A limit of 0 means not limited."""

    name: Annotated[str, valid_name(), "name of the class; its devices are called `NAME-0`, `NAME-1` and so on"]
    count: Annotated[int, whole_number(1), Unit("devices"), "number of devices"] = 1
    slowdown: Annotated[
        float,
        at_least(1),
        "emulated: a device sleeps (slowdown - 1) x its own CPU time, on an accelerator x the time of its work",
    ] = 1.0
    memory_mb: Annotated[
        float | None,
        at_least(0),
        Unit("MiB"),
        "limit on live tensors in a training step; decides which arms are feasible, and which devices may join; "
        "`auto`, `fleet` alone: what is free where the device trains, shared with the others there",
    ] = 0.0
    uplink_mbps: Annotated[float, at_least(0), Unit("Mbit/s"), "speed of uploads, in megabits per second"] = 0.0
    downlink_mbps: Annotated[float, at_least(0), Unit("Mbit/s"), "speed of downloads, in megabits per second"] = 0.0
    device: Annotated[
        str,
        device_name(),
        "where devices train, `fleet` alone: `auto`, `cpu`, `cuda`, `mps`, `xpu`, or one by number, such as `cuda:1`; "
        "without a number, the accelerators of this machine are dealt to the devices in turn",
    ] = AUTO
    precision: Annotated[
        str | None, one_of(AUTO, *PRECISIONS), "the class's own, `fleet` alone; left out, `training.precision`"
    ] = None
    network: Annotated[
        str,
        valid_name(optional=True),
        "network class, such as `5g`, `wifi` or `ethernet`; seconds, bytes and shares are reported by it, nothing is "
        "limited",
    ] = ""
    target_sparsity: Annotated[
        float | None, within(0, 1, "[)"), "the class's own; left out, `strategy.target_sparsity`"
    ] = None
    codec: Annotated[str | None, "the class's own; left out, `training.codec`"] = None
    quantize: Annotated[
        str | None, one_of("none", "int8", "nf4"), "the class's own form of the base; left out, `model.quantize`"
    ] = None
    # The keys below are for simulations only:
    availability: Annotated[
        str,
        one_of("always", "diurnal", "churn"),
        "when devices are online; this and all below is for `simulate` alone. `diurnal`: online the same share of "
        "every day; `churn`: comes and goes at random",
    ] = "always"
    online_share: Annotated[
        float, within(0, 1, "(]"), "share of the time that a device is online, under `diurnal` and `churn`"
    ] = 0.5
    session_s: Annotated[float, above(0), Unit("s"), "mean time that a device stays online, under `churn`"] = 3600.0
    power_modes: Annotated[
        tuple[float, ...],
        each(at_least(1)),
        "factors of `slowdown`, dealt to the class's devices in turn; empty: all devices alike",
    ] = ()
    uplink_range_mbps: Annotated[
        tuple[float, ...],
        speed_range(),
        Unit("Mbit/s"),
        "slowest and fastest uplink: each device draws its own, evenly in the logarithm; empty: `uplink_mbps`",
    ] = ()
    downlink_range_mbps: Annotated[
        tuple[float, ...],
        speed_range(),
        Unit("Mbit/s"),
        "slowest and fastest downlink; one draw, for where a device stands, serves uplink and downlink; empty: "
        "`downlink_mbps`",
    ] = ()
    link_sigma: Annotated[float, at_least(0), "spread of the link's speed over time: lognormal, median 1"] = 0.0
    link_period_s: Annotated[
        float,
        at_least(0),
        Unit("s"),
        "virtual seconds in which the speed drifts from one draw to the next; 0: a draw for every assignment",
    ] = 0.0
    dropout: Annotated[
        float, within(0.0, 1.0), "share of assignments during which a device vanishes for the time of a lease"
    ] = 0.0
    failure: Annotated[float, within(0.0, 1.0), "share of assignments that a device fails"] = 0.0

    @property
    def known_memory_mb(self) -> float:
        """The limit as far as it is known before a device has looked; 0 is none."""
        return self.memory_mb or 0.0

    def __post_init__(self) -> None:
        check_name(self.name, "fleet.class name")
        check_keys(self, f"fleet.class {self.name}: ")
