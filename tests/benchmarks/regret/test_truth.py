import math

import numpy as np
import pytest

from benchmarks.regret.truth import (
    IMPORTANCE_NOISE,
    NOISE,
    Worths,
    expected_rewards,
    gains,
    joined,
    normal_cdf,
)
from fedcore.core.bandit.reward import reward_parts, rewards_of
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import DeviceReport, Outcome, Status, TrainingMetrics

WEIGHTS = (0.5, 0.2, 0.1, 0.2)
REACH = 0.8


def worths(gain, importance, progress, seconds):
    return Worths(*(np.array(column, dtype=float) for column in (gain, importance, progress, seconds)))


def test_the_distribution_function_is_the_normal_one():
    z = np.linspace(-5, 5, 101)
    exact = [0.5 * math.erfc(-value / math.sqrt(2)) for value in z]
    assert np.abs(normal_cdf(z) - exact).max() < 1e-7


def test_gains_are_concave_in_steps_and_fall_with_pruning_and_small_ranks():
    steps = np.array([0.0, 10.0, 20.0, 30.0])
    curve = gains(steps, np.zeros(4), np.ones(4))
    assert curve[0] == 0.0
    assert np.all(np.diff(curve) > 0)
    assert np.all(np.diff(curve, 2) < 0)
    one = np.ones(1)
    assert gains(10 * one, 0.5 * one, one) < gains(10 * one, 0 * one, one)
    assert gains(10 * one, 0 * one, 0.25 * one) < gains(10 * one, 0 * one, one)


def outcome(name, drop, importance, seconds, sparsity):
    report = DeviceReport(
        metrics=TrainingMetrics(
            loss_before=1.0,
            loss_after=1.0 - drop,
            train_loss=1.0,
            peak_memory_mb=0.0,
            adapter_importance=importance,
        ),
        phase_s={},
        num_examples=1,
        steps=1,
        bytes_down=0,
        bytes_up=0,
    )
    arm = Arm(sparsity=sparsity, rank=4, steps=5)
    return Outcome(
        device=name,
        device_class="nx",
        round=1,
        arm=arm,
        status=Status.ACCEPTED,
        time_s=seconds,
        report=report,
    )


@pytest.mark.parametrize("seconds", [6.0, 16.0])  # far beyond, the clip at zero bites: see the docstring
def test_the_expected_reward_is_the_mean_of_the_real_one_over_the_noise(seconds):
    mine = worths([0.15], [-0.2], [0.6], [seconds])
    others = worths([0.12, 0.16, 0.1, 0.2], [-0.7, 0.0, -0.3, -0.1], [0.5, 0.6, 0.4, 1.0], [4.0, 12.0, 15.0, 9.0])
    table, rng, earned = joined([mine, others]), np.random.default_rng(0), []
    names = [f"d{place}" for place in range(5)]
    for _ in range(2500):
        drops = REACH * table.gain + NOISE * rng.standard_normal(5)
        importances = REACH * np.exp(table.importance + IMPORTANCE_NOISE * rng.standard_normal(5))
        cohort = [
            outcome(*figures)
            for figures in zip(
                names, drops, importances, table.seconds.tolist(), (table.progress / 2).tolist(), strict=True
            )
        ]
        parts = reward_parts(cohort, dict.fromkeys(names, 0.5), per_second=True)
        earned.append(rewards_of(cohort, parts, WEIGHTS)["d0"])
    expected = expected_rewards(mine, others, reach=REACH, weights=WEIGHTS)
    assert expected[0] == pytest.approx(np.mean(earned), abs=0.012)


def test_an_arm_does_not_depend_on_the_other_arms_asked_about():
    others = worths([0.12, 0.16], [-0.7, 0.0], [0.5, 0.6], [4.0, 12.0])
    arms = [worths([0.1], [0.0], [0.2], [3.0]), worths([0.3], [-0.5], [0.9], [40.0])]
    together = expected_rewards(joined(arms), others, reach=REACH, weights=WEIGHTS)
    alone = [expected_rewards(arm, others, reach=REACH, weights=WEIGHTS)[0] for arm in arms]
    assert together == pytest.approx(alone)
