import pytest

from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.core.errors import ConfigError


def test_a_slow_processor_sleeps_the_rest() -> None:
    slept: list[float] = []
    slow = SlowCpu(3.5, sleep=slept.append)
    assert slow.pause(2.0) == 5.0
    assert slow.pause(-0.1) == 0.0
    assert slept == [5.0]


def test_factor_one_never_sleeps() -> None:
    slept: list[float] = []
    assert SlowCpu(1.0, sleep=slept.append).pause(10.0) == 0.0
    assert slept == []


def test_a_speed_up_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 1, got 0\.5"):
        SlowCpu(0.5)
