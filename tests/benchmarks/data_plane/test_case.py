"""A case's adapter has the size it says, and its configuration is one the coordinator takes."""

import math

import pytest

from benchmarks.data_plane.case import Case, size_text, spec_of, write_model
from fedcore.core.config.toml import parse_config
from fedcore.server.run.preflight import check_run


@pytest.mark.parametrize("size", [1_000, 10_000_000, 100_000_000, 500_000_000])
def test_the_adapter_has_the_payloads_size(size):
    case = Case(devices=2, payload_bytes=size, rounds=3)
    spec = spec_of(case.geometry, case.rank)
    one_rank = 4 * sum(math.prod(shape) for name, shape in spec.shapes(rank=1).items() if not name.startswith("head."))
    assert abs(4 * spec.num_values() - size) <= one_rank / 2


def test_its_run_can_begin(tmp_path):
    case = Case(devices=10, payload_bytes=10_000_000, rounds=3, cohort=5)
    write_model(case, tmp_path / "model")
    config = parse_config(case.config(tmp_path / "model"))
    assert (config.run.rounds, config.strategy.cohort, config.coordinator.min_devices) == (4, 5, 10)
    strategy = check_run(config, tmp_path / "model")
    assert strategy.spec.shapes() == spec_of(case.geometry, case.rank).shapes()
    assert sum(file.stat().st_size for file in (tmp_path / "model").iterdir()) < 14e6


def test_sizes_are_named_in_decimal_units():
    assert [size_text(size) for size in (1000, 10_000_000, 500_000_000)] == ["1 kB", "10 MB", "500 MB"]
