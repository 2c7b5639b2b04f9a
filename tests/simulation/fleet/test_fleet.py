from statistics import fmean

import numpy as np
import pytest

from fedcore.core.config.tables import ClassConfig, Config, RunConfig
from fedcore.core.errors import ConfigError
from fedcore.simulation.fleet.fleet import VirtualDevice, make_fleet


def devices(*classes: ClassConfig, seed: int = 0) -> list[VirtualDevice]:
    config = Config(run=RunConfig(seed=seed), classes=classes)
    rows = [np.arange(2)] * sum(kind.count for kind in classes)
    return list(make_fleet(config, rows, ["a", "b"]).devices.values())


def test_power_modes_take_turns_within_every_class() -> None:
    fleet = devices(
        ClassConfig(name="a", count=5, slowdown=2.0, power_modes=(1.0, 1.5)),
        ClassConfig(name="b", count=2, slowdown=3.0),
        ClassConfig(name="c", count=2, power_modes=(1.0, 2.0)),
    )
    assert [device.profile.slowdown for device in fleet] == [2.0, 3.0, 2.0, 3.0, 2.0, 3.0, 3.0, 1.0, 2.0]


def test_links_are_drawn_evenly_in_the_logarithm_and_one_draw_serves_both() -> None:
    fleet = devices(ClassConfig(name="a", count=400, uplink_range_mbps=(1.0, 30.0), downlink_range_mbps=(2.0, 60.0)))
    logs = [np.log(device.profile.uplink_mbps) / np.log(30.0) for device in fleet]
    assert 0 <= min(logs) < 0.02
    assert 0.98 < max(logs) <= 1
    assert fmean(logs) == pytest.approx(0.5, abs=0.05)
    assert all(device.profile.downlink_mbps == pytest.approx(2 * device.profile.uplink_mbps) for device in fleet)


def test_a_place_follows_from_seed_and_name_alone() -> None:
    kind = ClassConfig(name="a", count=3, uplink_range_mbps=(1.0, 30.0), downlink_mbps=7.0)
    alone, beside, other = devices(kind), devices(ClassConfig(name="b"), kind), devices(kind, seed=1)
    assert [device.profile for device in alone] == [device.profile for device in beside[1:]]
    assert alone[0].profile.uplink_mbps != other[0].profile.uplink_mbps
    assert {device.profile.downlink_mbps for device in alone} == {7.0}


@pytest.mark.parametrize("bounds", [(1.0,), (0.0, 1.0), (2.0, 1.0), (1.0, float("inf")), (1.0, 2.0, 3.0)])
def test_a_range_out_of_order_is_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="uplink_range_mbps: expected a slowest and a fastest"):
        ClassConfig(name="a", uplink_range_mbps=bounds)


def test_a_power_mode_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="power_modes must be at least 1"):
        ClassConfig(name="a", power_modes=(1.0, 0.5))


def test_self_measurements_spread_around_the_true_speeds() -> None:
    kind = ClassConfig(name="a", count=300, slowdown=2.0, uplink_mbps=8.0, link_sigma=0.3)
    trials = [device.profile.trial for device in devices(kind)]
    logs = {
        "gflops": np.log([trial.gflops / 30.0 for trial in trials]),
        "uplink_mbps": np.log([trial.uplink_mbps / 8.0 for trial in trials]),
    }
    assert [abs(values.mean()) < 0.05 for values in logs.values()] == [True, True]
    assert [float(values.std()) for values in logs.values()] == pytest.approx([0.05, 0.3], rel=0.15)
    assert min(trial.downlink_mbps for trial in trials) > 1e4, "a link without limit is a fast one"
    assert trials == [device.profile.trial for device in devices(kind)]
