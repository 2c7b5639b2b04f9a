import time
from pathlib import Path
from typing import Any

import pytest

from fedcore.client.device import energy
from fedcore.client.device.energy import SAMPLE_S, EnergyMeter, Spent, energy_meter


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")


def rapl(root: Path, package: int, used: float, most: float = 1e9) -> None:
    folder = f"class/powercap/intel-rapl:{package}"
    write(root, **{f"{folder}/energy_uj": f"{used * 1e6:.0f}", f"{folder}/max_energy_range_uj": f"{most * 1e6:.0f}"})


def jetson(root: Path, label: str = "VDD_IN", milliamperes: int = 2000) -> None:
    folder = "class/hwmon/hwmon3"
    write(root, **{f"{folder}/name": "ina3221", f"{folder}/in1_label": label})
    write(root, **{f"{folder}/in1_input": "5000", f"{folder}/curr1_input": str(milliamperes)})


def test_a_machine_that_tells_nothing_reports_nothing(tmp_path: Path) -> None:
    meter = energy_meter("cpu", shared=False, root=tmp_path)
    meter.begin()
    assert meter.end() == Spent()
    assert EnergyMeter().end() == Spent()


def test_packages_are_added_up_and_a_counter_may_begin_anew(tmp_path: Path) -> None:
    rapl(tmp_path, 0, 100.0)
    rapl(tmp_path, 1, 995.0, most=1000.0)
    rapl(tmp_path, 0, 100.0)
    write(tmp_path, **{"class/powercap/intel-rapl:0:0/energy_uj": "7"})  # a part of package 0
    write(tmp_path, **{"class/thermal/thermal_zone0/temp": "41000", "class/thermal/thermal_zone1/temp": "52500"})
    meter = energy_meter("cpu", shared=False, root=tmp_path)
    for _ in range(2):
        meter.begin()
        rapl(tmp_path, 0, 112.0)
        rapl(tmp_path, 1, 3.0, most=1000.0)
        spent = meter.end()
        assert spent.energy_j == pytest.approx(20.0) and spent.temperature_c == 52.5
        rapl(tmp_path, 0, 100.0, most=112.0)
        rapl(tmp_path, 1, 995.0, most=1000.0)


def test_a_counter_that_is_gone_makes_the_figure_unknown_and_fails_nothing(tmp_path: Path) -> None:
    rapl(tmp_path, 0, 1.0)
    meter = energy_meter("cpu", shared=False, root=tmp_path)
    meter.begin()
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").unlink()
    assert meter.end() == Spent()


def test_a_board_is_sampled_and_its_counters_are_left_out(tmp_path: Path) -> None:
    jetson(tmp_path)
    rapl(tmp_path, 0, 1.0)
    now = [0.0]
    meter = energy_meter("cuda", shared=False, root=tmp_path)
    meter.clock = lambda: now[0]
    assert not meter.counters
    meter.begin()
    now[0] = 3.0
    assert meter.end().energy_j == pytest.approx(30.0), "10 W for 3 s"
    meter.begin()
    jetson(tmp_path, milliamperes=4000)
    now[0] = 5.0
    assert meter.end().energy_j == pytest.approx(30.0), "10 W, then 20 W, over 2 s"


def test_the_thread_looks_while_work_goes_on(tmp_path: Path) -> None:
    jetson(tmp_path)
    meter = energy_meter("cpu", shared=False, root=tmp_path)
    meter.begin()
    time.sleep(2.5 * SAMPLE_S)
    energy_j = meter.end().energy_j
    assert energy_j is not None and 5.0 < energy_j < 100.0


def test_only_rails_of_the_whole_board_count(tmp_path: Path) -> None:
    jetson(tmp_path, label="VDD_GPU_SOC")
    assert not energy_meter("cpu", shared=False, root=tmp_path).powers


class FakeNvml:
    """The module pynvml with one card."""

    millijoules = 5000.0
    fails = False

    def nvmlInit(self) -> None:
        if self.fails:
            raise OSError("no driver")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> float:
        assert handle == "GPU-1"
        return self.millijoules

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 63


def test_a_card_and_the_packages_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_uuid", lambda device: "GPU-1")
    rapl(tmp_path, 0, 1.0)
    nvml = FakeNvml()
    meter = energy_meter("cuda:0", shared=False, root=tmp_path, nvml=nvml)
    meter.begin()
    nvml.millijoules += 2500
    rapl(tmp_path, 0, 3.0)
    assert meter.end() == Spent(energy_j=pytest.approx(4.5), temperature_c=63.0)


@pytest.mark.parametrize("device", ["cuda", "cpu", "mps"])
def test_without_a_driver_or_a_card_there_is_none(device: str, tmp_path: Path) -> None:
    nvml: Any = FakeNvml()
    nvml.fails = True
    assert not energy_meter(device, shared=False, root=tmp_path, nvml=nvml).counters


def test_devices_that_share_a_machine_measure_nothing(tmp_path: Path) -> None:
    rapl(tmp_path, 0, 1.0)
    meter = energy_meter("cpu", shared=True, root=tmp_path)
    assert not meter.counters and not meter.temperatures
