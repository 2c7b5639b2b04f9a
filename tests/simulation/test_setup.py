from pathlib import Path

import pytest

from fedcore.core.config.toml import parse_config
from fedcore.simulation.setup import UNTRAINED_ROWS, SimulationSetup, read_setup
from tests.simulation.workload.test_untrained import CONFIG
from tests.tiny_run import write_model


def setup_of(folder: Path, *overrides: str) -> SimulationSetup:
    if not (folder / "model").exists():
        write_model(folder / "model")
    return read_setup(parse_config(CONFIG.format(model=folder / "model", more=""), overrides))


def test_a_setup_without_training_has_a_curve_and_no_rows(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    assert (setup.training, setup.test) == (None, None) and setup.curve is not None
    assert setup.config.data.labels == ("0", "1")
    assert list(setup.fleet.devices) == ["big-0", "big-1", "big-2", "small-0", "small-1", "small-2"]
    assert {len(device.rows) for device in setup.fleet.devices.values()} == {UNTRAINED_ROWS}


def test_the_untrained_adapter_has_one_target_and_the_costs_have_all(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    assert setup.strategy is not None
    assert setup.strategy.spec.targets == setup.spec.targets[:1]
    assert setup.spec.targets == setup.spec.geometry.modules


def test_a_class_without_the_memory_is_refused_with_the_reason(tmp_path: Path) -> None:
    setup = setup_of(tmp_path, "fleet.class.small.memory_mb=0.0001")
    assert setup.refused.keys() == {"small"} and "raise memory_mb" in setup.refused["small"]
    assert len(setup.fleet.devices) == 3


@pytest.mark.parametrize("rows", [1, 7])
def test_rows_per_device_are_those_of_the_configuration(tmp_path: Path, rows: int) -> None:
    setup = setup_of(tmp_path, f"simulation.rows_per_device={rows}")
    assert {len(device.rows) for device in setup.fleet.devices.values()} == {rows}
