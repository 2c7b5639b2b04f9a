"""What arms are worth in the benchmark, where it is known: no model, formulas alone.

After x effective steps of the fleet, a device that takes H local steps at sparsity s and rank r lowers its loss by

    drop = reach DROP (1 - exp(-H / STEPS_SCALE)) (1 - s^2 / 2) (r / r_max)^(1/4) talent + NOISE z,
    reach = exp(-x / PROGRESS_SCALE)

(z standard normal, talent the device's own), reports an importance of reach (r / r_max)^(1/2) exp(IMPORTANCE_NOISE z)
and takes the cost model's seconds. x grows by the cohort's mean of drop / talent x STEPS_SCALE. The form is not the one
that the planner guesses (fedcore.strategies.policy.round_budget.worth).

The reward ranks a device within its cohort, so what an arm is worth depends on what the others play. The expected
reward of arm a for device i is the mean of `fedcore.core.bandit.reward` over the noise, given the arms that the others
of its cohort really play: with the pairwise chances that normal noise gives,

    E[loss rank] = mean over j of Phi((m_i - m_j) / sqrt(v_i + v_j)),

m and v being means and variances of the drops (per second beyond the reference, where rewards rank that). The reference
time, with device i's own time for a, is the same for all devices. A reward below zero is clipped in the mean alone.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STEPS_SCALE = 20.0
SPARSITY_COST = 0.5
RANK_POWER = 0.25
IMPORTANCE_POWER = 0.5
DROP = 0.3  # of a device that takes endless steps, at the start
NOISE = 0.02  # of a loss drop
IMPORTANCE_NOISE = 0.3
PROGRESS_SCALE = 200.0  # effective steps in which what is left to learn falls to 1 / e

Floats = NDArray[np.float64]


class Worths(NamedTuple):
    """Noise-free figures of arms: (arms,) each."""

    gain: Floats  # mean drop / reach
    importance: Floats  # log of the median importance
    progress: Floats  # realised sparsity / target, at most 1
    seconds: Floats


def gains(steps: Floats, sparsity: Floats, rank_share: Floats) -> Floats:
    """Return drop / reach of arms, for a device of talent 1."""
    effort = 1.0 - np.exp(-steps / STEPS_SCALE)
    gain: Floats = DROP * effort * (1.0 - SPARSITY_COST * sparsity**2) * rank_share**RANK_POWER
    return gain


def normal_cdf(z: Floats) -> Floats:
    """Return Phi(z) within 1e-7 (Abramowitz and Stegun, 26.2.17)."""
    t = 1.0 / (1.0 + 0.2316419 * np.abs(z))
    tail = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    upper = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi) * tail
    return np.where(z >= 0.0, 1.0 - upper, upper)


def joined(worths: Sequence[Worths]) -> Worths:
    """Return the figures one after the other."""
    return Worths(*(np.concatenate(column) for column in zip(*worths, strict=True)))


def expected_rewards(mine: Worths, others: Worths, *, reach: float, weights: Sequence[float]) -> Floats:
    """Return the expected reward of each of a device's arms `mine` while the others play `others`, one arm each."""
    arms = len(mine.gain)
    times = np.column_stack([mine.seconds, np.broadcast_to(others.seconds, (arms, len(others.seconds)))])
    reference = np.median(times, axis=1)
    pace = np.minimum(1.0, reference[:, None] / times)  # (arms, 1 + others): seconds beyond the reference count
    drops = reach * np.column_stack([mine.gain, np.broadcast_to(others.gain, (arms, len(others.gain)))]) * pace
    spread = NOISE * np.sqrt(pace[:, :1] ** 2 + pace[:, 1:] ** 2)
    loss_rank = normal_cdf((drops[:, :1] - drops[:, 1:]) / spread).mean(axis=1)
    ahead = (mine.importance[:, None] - others.importance) / (IMPORTANCE_NOISE * math.sqrt(2.0))
    lateness = np.clip(mine.seconds / reference - 1.0, 0.0, 1.0)
    gained = weights[0] * loss_rank + weights[1] * mine.progress + weights[2] * normal_cdf(ahead).mean(axis=1)
    rewards: Floats = np.clip(gained - weights[3] * lateness, 0.0, 1.0)
    return rewards
