from dataclasses import replace

import pytest

from fedcore.core.contract.profile import DeviceProfile
from fedcore.simulation.fleet.duration import TrainCost, download_seconds, upload_seconds
from fedcore.simulation.fleet.faults import FaultDraw
from tests.simulation.workload.test_traffic import SPEC, part

COST = TrainCost(SPEC, 8, 1e9)
PROFILE = DeviceProfile(name="a", device_class="a", num_examples=1, uplink_mbps=8.0, downlink_mbps=16.0)


def seconds(steps: int, *, score: bool = False, slowdown: float = 1.0) -> float:
    assignment = replace(part("a", score=score).assignment, local_steps=steps)
    return COST.seconds(assignment, replace(PROFILE, slowdown=slowdown))


def test_training_is_linear_in_steps_and_in_the_slowdown() -> None:
    step_s = seconds(2) - seconds(1)
    assert seconds(10) - seconds(1) == pytest.approx(9 * step_s)
    assert 0 < seconds(0) < 2 * step_s, "two probes are two forward passes"
    assert seconds(3, slowdown=4.0) == pytest.approx(4 * seconds(3))
    assert seconds(3, score=True) - seconds(3) == pytest.approx(1.5 * step_s), "taylor costs a step and a half"


def test_a_faster_device_takes_less() -> None:
    assignment = part("a").assignment
    assert replace(COST, flops_per_s=2e9).seconds(assignment, PROFILE) == pytest.approx(seconds(1) / 2)


def test_links_take_bits_over_their_drawn_speed() -> None:
    faults = FaultDraw(uplink=0.5, downlink=2.0)
    assert download_seconds(4_000_000, PROFILE, faults) == pytest.approx(1.0)
    assert upload_seconds(1_000_000, PROFILE, faults) == pytest.approx(2.0)
    assert upload_seconds(1_000_000, PROFILE, FaultDraw()) == pytest.approx(1.0)
