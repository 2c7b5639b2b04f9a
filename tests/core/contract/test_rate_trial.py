import pytest

from fedcore.core.contract.rate_trial import FORWARD_SHARE, PROBE_BATCHES, RateTrial
from fedcore.core.errors import ConfigError


def test_a_trial_costs_its_steps_and_the_losses_it_measures() -> None:
    trial = RateTrial(rates=(1e-3, 2e-3, 4e-3), steps=5)
    assert trial.taken_steps == 15
    assert trial.cost_steps == pytest.approx(15 + 4 * PROBE_BATCHES * FORWARD_SHARE)


@pytest.mark.parametrize("rates", [(), (0.0,), (-1e-3,), (float("nan"),), (float("inf"),)])
def test_rates_are_above_zero(rates: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="learning rates above 0"):
        RateTrial(rates=rates, steps=1)


def test_a_trial_takes_a_step() -> None:
    with pytest.raises(ConfigError, match="at least 1 step"):
        RateTrial(rates=(1e-3,), steps=0)
