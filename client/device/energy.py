"""What a round costs in energy, where the machine tells: NVML of NVIDIA, RAPL of Intel and AMD, sensors of a Jetson.

No reading raises or waits: a source that does not tell is left out, one that stops telling makes the figure unknown.
"""

import importlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SYS = Path("/sys")
SAMPLE_S = 0.5  # between two looks at a sensor that tells power alone
BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "VDD_5V_IN")  # of a Jetson: what the whole module takes
_SENSORS = ("ina3221", "ina3221x", "ina238")
_GPU_CORE = 0  # NVML's number of the sensor in a card's core

Reading = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What work took: joules, and degrees Celsius of the hottest part at its end; None where nothing tells."""

    energy_j: float | None = None
    temperature_c: float | None = None


@dataclass(slots=True, kw_only=True)
class EnergyMeter:
    """Measures one piece of work after the other. All sources are of the whole machine or of a whole card.

    `counters` return joules that only grow, `powers` watts now, `temperatures` degrees Celsius. Where there are
    `powers`, those of a whole board, the counters are left out.
    """

    counters: tuple[Reading, ...] = ()
    powers: tuple[Reading, ...] = ()
    temperatures: tuple[Reading, ...] = ()
    clock: Reading = time.monotonic
    _begun: float | None = None
    _sampler: "_Sampler | None" = None

    def begin(self) -> None:
        """Begin to measure."""
        self._stop()
        if self.powers:
            self._sampler = _Sampler(self.powers, self.clock)
            self._sampler.start()
        else:
            self._begun = _total(self.counters)

    def end(self) -> Spent:
        """Return what was spent since `begin`."""
        degrees = [value for each in self.temperatures if (value := _read(each)) is not None]
        hottest = max(degrees) if degrees else None
        if self._sampler is not None:
            return Spent(energy_j=self._stop(), temperature_c=hottest)
        begun, now = self._begun, _total(self.counters)
        known = begun is not None and now is not None and now >= begun
        return Spent(energy_j=now - begun if known else None, temperature_c=hottest)  # type: ignore[operator]

    def _stop(self) -> float | None:
        sampler, self._sampler = self._sampler, None
        return None if sampler is None else sampler.stop()


def energy_meter(device: str, *, shared: bool, root: Path = SYS, nvml: Any = None) -> EnergyMeter:
    """Return the meter of a device that trains on `device`, a name of PyTorch.

    `shared`: other devices of the run train on this machine, so that nobody's share can be told: nothing is measured.
    `root` is the system's folder /sys; `nvml` the module pynvml, None: where it can be imported.
    """
    if shared:
        return EnergyMeter()
    energy, heat = _card(device, nvml)
    powers = tuple(_rails(root))
    counters = () if powers else (*energy, *_packages(root))
    zones = root.glob("class/thermal/thermal_zone*/temp")
    return EnergyMeter(counters=counters, powers=powers, temperatures=(*heat, *(_number(zone, 1e-3) for zone in zones)))


def _card(device: str, nvml: Any) -> tuple[list[Reading], list[Reading]]:
    """Return the readings of joules and degrees of an NVIDIA card."""
    if not device.startswith("cuda"):
        return [], []
    try:
        module = importlib.import_module("pynvml") if nvml is None else nvml
        module.nvmlInit()
        handle = module.nvmlDeviceGetHandleByUUID(_uuid(device))  # numbers differ where some cards are hidden
    except Exception:  # no such package, no driver, no card
        return [], []
    readings: tuple[Reading, Reading] = (
        lambda: float(module.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3,
        lambda: float(module.nvmlDeviceGetTemperature(handle, _GPU_CORE)),
    )
    energy, heat = ([each] if _read(each) is not None else [] for each in readings)
    return energy, heat


def _uuid(device: str) -> str:
    """Return a card's name in NVML."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def _packages(root: Path) -> list[Reading]:
    """Return the counters of every processor package; they are often readable for root alone."""
    found = [zone for zone in root.glob("class/powercap/intel-rapl:*") if zone.name.count(":") == 1]
    return [_Wrapping(zone) for zone in sorted(found) if _read(_number(zone / "energy_uj", 1e-6)) is not None]


def _rails(root: Path) -> list[Reading]:
    """Return the power of the rails that feed the whole module of a Jetson."""
    rails: list[Reading] = []
    for label in sorted(root.glob("class/hwmon/hwmon*/in*_label")):
        name = _text(label.parent / "name")
        if name in _SENSORS and _text(label) in BOARD_RAILS:
            channel = label.name.removeprefix("in").removesuffix("_label")
            volts = _number(label.parent / f"in{channel}_input", 1e-3)
            amperes = _number(label.parent / f"curr{channel}_input", 1e-3)
            rails.append(lambda volts=volts, amperes=amperes: volts() * amperes())  # type: ignore[misc]
    return [rail for rail in rails if _read(rail) is not None]


@dataclass(slots=True)
class _Wrapping:
    """A counter of joules that begins anew at its end: every look adds what came since the last one."""

    zone: Path
    _last: float | None = None
    _sum: float = 0.0

    def __call__(self) -> float:
        now = _number(self.zone / "energy_uj", 1e-6)()
        if self._last is not None:
            more = now - self._last
            self._sum += more if more >= 0 else more + _number(self.zone / "max_energy_range_uj", 1e-6)()
        self._last = now
        return self._sum


@dataclass(slots=True)
class _Sampler:
    """Adds power up to joules on a thread of its own."""

    powers: tuple[Reading, ...]
    clock: Reading
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _joules: float | None = 0.0
    _at: tuple[float, float | None] = (0.0, None)

    def start(self) -> None:
        self._at = self.clock(), _total(self.powers)
        self._thread = threading.Thread(target=self._run, name="energy", daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(SAMPLE_S)
        self._look()
        return self._joules

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._look()

    def _look(self) -> None:
        (then, before), now, power = self._at, self.clock(), _total(self.powers)
        known = self._joules is not None and before is not None and power is not None
        self._joules = self._joules + (before + power) / 2 * (now - then) if known else None  # type: ignore[operator]
        self._at = now, power


def _total(readings: tuple[Reading, ...]) -> float | None:
    values = [_read(each) for each in readings]
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _read(reading: Reading) -> float | None:
    try:
        return reading()
    except Exception:  # a file that is gone, a driver's fault: energy is unknown, and the round goes on
        return None


def _number(file: Path, unit: float) -> Reading:
    return lambda: int(file.read_text(encoding="ascii")) * unit


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
