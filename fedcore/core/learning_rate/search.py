"""The search for a learning rate: which rates devices try, and what the fleet's rate is, from the losses they report.

Theory of operation. Rates lie on a ladder, RATIO apart. In the first round, a device tries WIDTH neighbouring rungs:
from the same adapter it takes a few steps on the same rows at each rate, and measures the loss on rows that none of
these steps has seen. Devices start at different rungs in turn, so that together they cover RUNGS rungs.

1. The loss changes of all devices are explained by an effect of the device and an effect of the rate, by least squares.
   Devices that tried the same rungs count by their mean alone: sums over them are all that is needed, so masked sums
   would do. A change for the worse counts as WORST at most: a device that diverges says "too large" and no more.
2. A rate counts by the mean of the two rungs about it: a run takes many more steps than a trial, and a rate next to one
   at which losses rise is too large for it, however well it did in two steps. On noisy labels the first steps learn the
   label shares, fastest at a rate that later learns nothing else.
3. A weak prior prefers the middle of the ladder, which served best elsewhere: where devices hold a few rows, or no rate
   makes a difference, noise must not decide.
4. The best rate is refined by the parabola through it and its neighbours. Where it is the lowest, the next round tries
   rungs below; above the ladder no rate served.
5. Two effects oppose each other. A few steps favour large rates: they reward the speed of the first steps. A single
   device bears smaller rates than a fleet, whose mean cancels the noise of its members, and whose rate falls over the
   rounds. In runs of up to USUAL_STEPS steps a device, the second was found to be the larger one by FLEET_GAIN
   (docs/log/2026-12.md). AdamW moves a parameter by about the rate in each step, so a longer run comes as far with a
   smaller rate: the square root lies between a steady direction and a random walk.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.rate_trial import RateTrial

RATIO = 2.5
RUNGS, WIDTH = 5, 3
MIDDLE = 2e-3  # rate of the middle rung in the first trial
UNKNOWN = 6e-4  # a trial's best rate where there is none: rather too small than too large
UNTRIED = 1e-3  # the same, of devices that train beside those that try, for one round: small steps would be lost
WORST = 1.0  # nats
PRIOR = 0.02  # nats by which the prior prefers the middle to its neighbour
USUAL_STEPS = 200
FLEET_GAIN = 4.0
LARGEST = 5e-3  # of a run: at 1e-2 and above, runs on uneven or noisy labels ended with one answer for every row
MOST_TRIALS = 3  # rounds

Changes = tuple[tuple[float, ...], tuple[float, ...]]  # rates, and the loss change at each


def ladder(shift: int) -> tuple[float, ...]:
    """Return RUNGS rates, ascending; `shift` moves all of them by so many rungs."""
    return tuple(MIDDLE * RATIO ** (rung - RUNGS // 2 + shift) for rung in range(RUNGS))


def device_trial(place: int, devices: int, *, steps: int, shift: int) -> RateTrial:
    """Return the trial of the device at `place` of `devices`, from 0: neighbouring rungs, or all where few try."""
    rates, windows = ladder(shift), RUNGS - WIDTH + 1
    if devices < windows:
        return RateTrial(rates=rates, steps=steps)
    low = place % windows
    return RateTrial(rates=rates[low : low + WIDTH], steps=steps)


def changes_of(trial: RateTrial, losses: Sequence[float]) -> Changes | None:
    """Return the loss changes of a device's trial, each at most WORST.

    `losses` are the loss before any step and after the steps at each rate, nats; None where they do not fit the trial:
    another number of them, or a first one that is not finite.
    """
    if len(losses) != len(trial.rates) + 1 or not math.isfinite(losses[0]):
        return None
    return trial.rates, tuple(_bounded(loss - losses[0]) for loss in losses[1:])


def rate_effects(trials: Sequence[Changes]) -> tuple[tuple[float, float], ...]:
    """Return (rate, mean loss change at it) of every rate tried, ascending, without the effects of single devices.

    Least squares over the means of devices that tried the same rates, weighted by their number; the effects are
    comparable with each other, and their mean is that of all changes.
    """
    groups: dict[tuple[float, ...], list[tuple[float, ...]]] = {}
    for rates, changes in trials:
        groups.setdefault(rates, []).append(changes)
    tried = sorted({rate for rates in groups for rate in rates})
    rows, values, weights = [], [], []
    for group, (rates, members) in enumerate(sorted(groups.items())):
        for rate, mean in zip(rates, np.mean(members, axis=0), strict=True):
            row = np.zeros(len(tried) + len(groups))
            row[tried.index(rate)] = row[len(tried) + group] = 1.0
            rows.append(row)
            values.append(mean)
            weights.append(math.sqrt(len(members)))
    scale = np.array(weights)
    solution = np.linalg.lstsq(np.array(rows) * scale[:, None], np.array(values) * scale, rcond=None)[0]
    effects = solution[: len(tried)]
    return tuple(zip(tried, (effects - effects.mean() + np.mean(values)).tolist(), strict=True))


def best_rate(effects: Sequence[tuple[float, float]]) -> tuple[float, bool]:
    """Return the trial's best rate, and whether rates below the ladder may be better.

    `effects` as from `rate_effects`, of two rates or more.
    """
    rungs = np.log([rate for rate, _ in effects])
    losses = np.array([effect for _, effect in effects])
    logs = (rungs[:-1] + rungs[1:]) / 2
    costs = (losses[:-1] + losses[1:]) / 2 + PRIOR * ((logs - logs.mean()) / math.log(RATIO)) ** 2
    best = int(np.argmin(costs))
    if best in (0, len(costs) - 1):
        return float(np.exp(logs[best])), best == 0 and len(costs) > 1
    return float(np.exp(_vertex(logs[best - 1 : best + 2], costs[best - 1 : best + 2]))), False


def run_rate(trial_rate: float, run_steps: int) -> float:
    """Return the first round's rate of a run of so many steps a device, from the best rate of a trial."""
    return min(LARGEST, FLEET_GAIN * trial_rate) * min(1.0, math.sqrt(USUAL_STEPS / max(1, run_steps)))


def rate_line(rate: float | None, devices: int) -> str:
    """Return what people read after a round with trials, of which `devices` answered; None: the search goes on."""
    if rate is None:
        return f"learning rate: the trials of {devices} devices found none yet; the next round tries others"
    source = f", by the trials of {devices} devices" if devices else ": no device answered a trial"
    return f"learning rate {rate:.2g}{source}"


def _vertex(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return where the parabola through three points is lowest; the middle one is the lowest of them."""
    curvature, slope, _ = np.polyfit(x - x[1], y, 2)
    offset = 0.0 if curvature <= 0 else -slope / (2 * curvature)
    half = (x[2] - x[0]) / 4
    return float(x[1] + min(half, max(-half, offset)))


def _bounded(change: float) -> float:
    return min(WORST, change) if math.isfinite(change) else WORST
