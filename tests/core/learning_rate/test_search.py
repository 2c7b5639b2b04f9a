import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.contract.rate_trial import DIVERGED, RateTrial
from fedcore.core.learning_rate.search import (
    FLEET_GAIN,
    MIDDLE,
    RATIO,
    RUNGS,
    WIDTH,
    WORST,
    best_rate,
    changes_of,
    device_trial,
    ladder,
    rate_effects,
    rate_line,
    rate_scale,
    run_rate,
)


def curve(best: float, depth: float = 0.5):
    """Return loss changes that are lowest at the rate `best`."""
    return lambda rate: -depth + 0.2 * (math.log(rate / best) / math.log(RATIO)) ** 2


def trials_of(devices: int, best: float, *, shift: int = 0):
    change = curve(best)
    for place in range(devices):
        trial = device_trial(place, devices, steps=3, shift=shift)
        offset = 0.3 * (place % 4)  # some devices improve less than others, whatever the rate
        yield trial.rates, tuple(change(rate) + offset for rate in trial.rates)


def test_a_ladder_has_rungs_of_equal_ratio_about_the_middle() -> None:
    rates = ladder(0)
    assert len(rates) == RUNGS and rates[RUNGS // 2] == MIDDLE
    assert [high / low for low, high in itertools.pairwise(rates)] == pytest.approx([RATIO] * (RUNGS - 1))
    assert ladder(1)[:-1] == pytest.approx(rates[1:])


def test_devices_together_cover_the_ladder() -> None:
    trials = [device_trial(place, 6, steps=3, shift=0) for place in range(6)]
    assert {len(trial.rates) for trial in trials} == {WIDTH}
    assert {rate for trial in trials for rate in trial.rates} == set(ladder(0))


@pytest.mark.parametrize("devices", [1, 2])
def test_where_devices_are_few_each_tries_every_rung(devices: int) -> None:
    assert device_trial(0, devices, steps=3, shift=0).rates == ladder(0)


@pytest.mark.parametrize("devices", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("best", [9e-4, 2e-3, 3.1e-3, 5e-3])
def test_the_best_rate_is_found_whatever_the_devices_differ_in(devices: int, best: float) -> None:
    found, below = best_rate(rate_effects(list(trials_of(devices, best))))
    assert not below
    assert found == pytest.approx(best, rel=0.25)


def test_at_the_lower_end_of_the_ladder_rates_below_are_asked_for() -> None:
    rate, below = best_rate(rate_effects(list(trials_of(6, 1e-5))))
    assert below and rate == pytest.approx(math.sqrt(ladder(0)[0] * ladder(0)[1]))


def test_the_upper_end_of_the_ladder_is_the_end() -> None:
    rate, below = best_rate(rate_effects(list(trials_of(6, 1.0))))
    assert not below and rate == pytest.approx(math.sqrt(ladder(0)[-2] * ladder(0)[-1]))


def test_a_rate_next_to_one_that_diverges_is_too_large() -> None:
    """As on labels with noise: two steps at a large rate learn the label shares, and a run at it nothing else."""
    changes = (-0.05, -0.12, -0.20, -0.22, 0.5)
    rate, _ = best_rate(tuple(zip(ladder(0), changes, strict=True)))
    assert ladder(0)[1] < rate < ladder(0)[3]


def test_where_no_rate_matters_the_prior_decides() -> None:
    flat = [(rates, (0.0,) * len(rates)) for rates, _ in trials_of(6, MIDDLE)]
    rate, below = best_rate(rate_effects(flat))
    assert not below and rate == pytest.approx(MIDDLE, rel=0.6)


def test_one_device_that_diverges_does_not_decide_for_the_others() -> None:
    told = list(trials_of(12, 4e-3))
    rates, _ = told[0]
    wild = changes_of(RateTrial(rates=rates, steps=3), (0.7, *(DIVERGED,) * len(rates)))
    assert wild is not None and wild[1] == (WORST,) * len(rates)
    found, _ = best_rate(rate_effects([wild, *told[1:]]))
    assert found == pytest.approx(4e-3, rel=0.3)


@pytest.mark.parametrize("losses", [(), (0.7,), (0.7, 0.6), (math.nan, 0.5, 0.5, 0.5), (0.7, 0.5, 0.5, 0.5, 0.5)])
def test_losses_that_do_not_fit_the_trial_are_left_out(losses: tuple[float, ...]) -> None:
    assert changes_of(RateTrial(rates=(1e-3, 2e-3, 5e-3), steps=3), losses) is None


def test_changes_are_bounded_upwards_alone() -> None:
    changes = changes_of(RateTrial(rates=(1e-3, 2e-3, 5e-3), steps=3), (5.0, 0.5, math.inf, math.nan))
    assert changes is not None and changes[1] == (-4.5, WORST, WORST)


@given(st.integers(1, 100_000))
def test_a_longer_run_takes_a_smaller_rate(run_steps: int) -> None:
    rate = run_rate(5e-3, run_steps)
    assert 0 < rate <= FLEET_GAIN * 5e-3
    assert run_rate(5e-3, 2 * run_steps) <= rate


def test_sums_over_devices_with_the_same_rungs_are_all_that_counts() -> None:
    told = list(trials_of(6, 4e-3))
    sums: dict[tuple[float, ...], list[tuple[float, ...]]] = {}
    for rates, changes in told:
        sums.setdefault(rates, []).append(changes)
    means = [
        (rates, tuple(sum(column) / len(members) for column in zip(*members, strict=True)))
        for rates, members in sums.items()
        for _ in members
    ]
    assert best_rate(rate_effects(means))[0] == pytest.approx(best_rate(rate_effects(told))[0])


def test_people_read_what_the_trials_found() -> None:
    assert rate_line(0.00243, 6) == "learning rate 0.0024, by the trials of 6 devices"
    assert rate_line(None, 6).endswith("the next round tries others")
    assert "no device answered" in rate_line(0.002, 0)


def test_rates_shrink_with_depth_and_width_from_the_usual_model_on() -> None:
    assert rate_scale(36, 384) == 1.0 and rate_scale(12, 32) == 1.0
    assert rate_scale(210, 576) == pytest.approx(0.14, abs=0.005)  # SmolLM2-135M: about 7e-4 at most
    assert rate_scale(224, 4096) == pytest.approx(0.05, abs=0.002)  # a Llama of 7 B: about 2.5e-4
