import math
from dataclasses import replace

import pytest

from fedcore.core.contract.outcome import Status
from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement
from fedcore.strategies.policy.cost import Demand
from fedcore.strategies.policy.speed import (
    SelfMeasured,
    Speed,
    Speeds,
    SpeedSample,
    declared_speed,
    learn_speeds,
    measured_speed,
    predicted_speed,
    self_measured_speed,
)

WORK = Demand(train_s=4.0, down_bytes=1e6, up_bytes=5e5)
PROFILE = DeviceProfile(name="n1", device_class="nx", num_examples=1, slowdown=3.0, uplink_mbps=4.0, downlink_mbps=8.0)


@pytest.fixture(scope="module")
def outcome(build, roster, fleet):
    strategy = build()
    _, plan = strategy.plan(strategy.start(), roster, 1)
    first = fleet(failures=False).outcomes(strategy, plan, roster)[0]

    def make(*, time_s=20.0, status=Status.ACCEPTED, **phases):
        return replace(first, time_s=time_s, status=status, report=replace(first.report, phase_s=phases))

    return make


def test_seconds_are_the_formula_and_profiles_tell_them():
    speed = declared_speed(PROFILE)
    assert speed == Speed(compute=3.0, down=1e-6, up=2e-6, other=0.0)
    assert speed.seconds(WORK) == pytest.approx(3 * 4 + 1 + 1)
    assert declared_speed(replace(PROFILE, uplink_mbps=0.0, downlink_mbps=0.0)) == Speed(compute=3.0)


def test_a_measured_speed_predicts_what_was_measured(outcome):
    speed = measured_speed(outcome(train=10.0, download=2.0, upload=3.0), WORK)
    assert speed == Speed(compute=2.5, down=2e-6, up=6e-6, other=5.0)
    assert speed.seconds(WORK) == pytest.approx(20.0)


def test_what_shows_no_speed_is_passed_over(outcome):
    assert measured_speed(outcome(train=10.0, status=Status.MISSED_DEADLINE), WORK) is None
    assert measured_speed(replace(outcome(train=10.0), report=None), WORK) is None
    for broken in ({}, {"train": math.nan}, {"train": math.inf}, {"train": 1.0, "upload": -1.0}):
        assert measured_speed(outcome(**broken), WORK) is None


def test_a_device_is_known_by_itself_then_by_its_class():
    state = learn_speeds(
        Speeds(), {"n1": SpeedSample("nx", Speed(compute=2.0)), "n2": SpeedSample("nx", Speed(compute=4.0))}
    )
    assert predicted_speed(state, PROFILE, SelfMeasured()).compute == 2.0
    newcomer = predicted_speed(state, replace(PROFILE, name="n9"), SelfMeasured()).compute
    assert newcomer == 3.0  # n2 is slower than n1 was: half of the way
    state = learn_speeds(state, {"n3": SpeedSample("nx", Speed(compute=1.0))})
    assert predicted_speed(state, replace(PROFILE, name="n9"), SelfMeasured()).compute == pytest.approx(
        2.8
    )  # a faster one moves it less
    assert predicted_speed(state, replace(PROFILE, name="t1", device_class="tx2"), SelfMeasured()) is None


def test_newer_measurements_move_compute_at_once_and_links_slowly():
    state = Speeds()
    for compute in (2.0, 4.0, 8.0):
        state = learn_speeds(state, {"n1": SpeedSample("nx", Speed(compute=compute, up=compute))})
    assert state.devices["n1"] == pytest.approx([7.12, 0.0, 4.22, 0.0])


def test_a_stranger_is_as_fast_as_it_found_itself():
    trial = SelfMeasurement(gflops=0.5, downlink_mbps=8.0)
    assert self_measured_speed(trial, 1e9) == (2.0, 1e-6, 1e-6)  # the uplink is taken to be as fast
    assert self_measured_speed(SelfMeasurement(), 1e9) == (None, None, None)
    assert predicted_speed(Speeds(), PROFILE, SelfMeasured(2.0, 1e-6, 2e-6)) == Speed(compute=2.0, down=1e-6, up=2e-6)
    assert predicted_speed(Speeds(), PROFILE, SelfMeasured(2.0, None, None)) is None, "no link is known"


def test_what_was_not_tried_is_the_class_s():
    state = learn_speeds(Speeds(), {"n1": SpeedSample("nx", Speed(compute=3.0, down=2e-6, up=4e-6, other=0.5))})
    newcomer = replace(PROFILE, name="n9")
    assert predicted_speed(state, newcomer, SelfMeasured(1.0, None, None)) == Speed(
        compute=1.0, down=2e-6, up=4e-6, other=0.5
    )


def test_trials_are_trusted_as_far_as_first_rounds_bear_them_out():
    state = Speeds()
    for number in range(40):
        shown = SpeedSample("nx", Speed(compute=3.0, down=1e-6, up=1e-6), SelfMeasured(2.0, 1e-6, None))
        state = learn_speeds(state, {f"n{number}": shown})
    assert state.self_factors == pytest.approx((1.5, 1.0, 1.0), rel=1e-3)
    again = learn_speeds(state, {"n1": SpeedSample("nx", Speed(compute=9.0), SelfMeasured(2.0, 1e-6, None))})
    assert again.self_factors == state.self_factors, "later rounds say how fast a device is, not what a trial is worth"
    newcomer = predicted_speed(state, replace(PROFILE, name="x"), SelfMeasured(1.0, 1e-6, 1e-6))
    assert newcomer.compute == pytest.approx(1.5, rel=1e-3)
