import math
from typing import Any

import pytest

from fedcore.core.config.tables import ClassConfig, FleetConfig, SimulationConfig
from fedcore.core.errors import ConfigError

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", "AGX", "fleet.class name 'AGX': expected 1-63 characters"),
        ("count", 0, "fleet.class x: count must be at least 1"),
        ("slowdown", 0.5, "fleet.class x: slowdown must be at least 1"),
        ("slowdown", NAN, "slowdown must be at least 1"),
        ("memory_mb", -1.0, "fleet.class x: memory_mb must be at least 0"),
        ("network", "5G", "fleet.class x: network '5G': expected 1-63 characters"),
        ("uplink_mbps", -1.0, "fleet.class x: uplink_mbps must be at least 0"),
        ("downlink_mbps", INF, "fleet.class x: downlink_mbps must be at least 0"),
        ("target_sparsity", 1.0, r"fleet.class x: target_sparsity must be in \[0, 1\)"),
    ],
)
def test_a_class_out_of_range_is_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassConfig(**{"name": "x", key: value})


@pytest.mark.parametrize(
    ("key", "good", "bad", "message"),
    [
        ("online_share", 1.0, 0.0, r"online_share must be in \(0, 1\], got 0.0"),
        ("session_s", 0.1, 0.0, "session_s must be above 0, got 0.0"),
        ("power_modes", (1.0, 2.5), (1.0, 0.5), "power_modes must be at least 1, got 0.5"),
        ("uplink_range_mbps", (2.0, 2.0), (2.0, 1.0), r"a slowest and a fastest speed above 0, in this order; got \[2"),
        ("downlink_range_mbps", (), (2.0,), r"downlink_range_mbps: expected a slowest and a fastest speed above 0"),
        ("uplink_range_mbps", (0.1, 1e9), (1.0, INF), "uplink_range_mbps: expected a slowest and a fastest speed"),
        ("link_sigma", 0.0, NAN, "link_sigma must be at least 0, got nan"),
        ("dropout", 1.0, 1.1, r"dropout must be in \[0.0, 1.0\], got 1.1"),
        ("failure", 0.0, -0.1, r"failure must be in \[0.0, 1.0\], got -0.1"),
        ("availability", "churn", "never", "availability: expected one of always, diurnal, churn; got 'never'"),
    ],
)
def test_what_a_simulation_needs_has_its_ranges(key: str, good: Any, bad: Any, message: str) -> None:
    assert getattr(ClassConfig(**{"name": "x", key: good}), key) == good
    with pytest.raises(ConfigError, match=f"^fleet.class x: .*{message}"):
        ClassConfig(**{"name": "x", key: bad})


@pytest.mark.parametrize(
    ("key", "bad", "message"),
    [
        ("training", "fast", "simulation.training: expected one of batched, one-by-one, none; got 'fast'"),
        ("workers", -1, "simulation.workers must be at least 0 and below 2**31, got -1"),
        ("chunk_devices", 0, "simulation.chunk_devices must be at least 1 and below 2**31, got 0"),
        ("gflops", 0.0, "simulation.gflops must be above 0, got 0.0"),
    ],
)
def test_a_simulation_out_of_range_is_named(key: str, bad: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimulationConfig(**{key: bad})
    assert str(caught.value) == message


def test_a_tier_is_no_smaller_than_the_one_above_it() -> None:
    assert FleetConfig(edges=(1, 1, 3)).edges == (1, 1, 3)
    with pytest.raises(ConfigError) as caught:
        FleetConfig(edges=(2, 1))
    assert str(caught.value) == "fleet.edges: a tier needs an edge at least for every one above it, got [2, 1]"
