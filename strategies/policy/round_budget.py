"""The time budget of a round: the one under which a cohort makes the most progress per second.

A synchronous round lasts as long as its slowest device. Device i, given a budget tau, does best with

    a_i(tau) = argmax of worth(a) over its arms with T_i(a) <= tau     (its fastest arm where none is that fast)

and the budget is the tau of a geometric grid that maximises

    sum_i weight_i worth(a_i(tau)) / max_i T_i(a_i(tau))

The worth of an arm is our estimate before any measurement:

    worth(steps, sparsity, rank) = sqrt(steps) (1 - sparsity^2 / 4) (rank / largest)^(1/8)

Steps are under a root, since their returns diminish: the leading term of local SGD's error falls with the root of
devices x steps x rounds (Stich, 2019, arXiv 1805.09767). The square makes small cuts nearly free, as in measured
exports. The rank's power is small, because mixed ranks did about as well as equal ones. Mostly the times decide.

Spare time: where steps are no part of the arm, a device that would wait for slower ones trains on, since steps within
the budget cost no time. Its predicted time stays within FILLED of the budget: predictions err, and a late device keeps
all others waiting. It takes at most MOST_FACTOR times its own steps, so that the mean stays one of devices that went
about as far, and at most MOST_PASSES over its rows in the whole run, or it learns them by heart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = 32  # budgets tried, from the shortest round possible to the longest
SPARSITY_COST = 0.25
RANK_POWER = 0.125
FILLED = 0.95  # of the budget
MOST_FACTOR = 2.0
MOST_PASSES = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """One device's arms: predicted seconds and worth of each, and its weight in the aggregate."""

    seconds: NDArray[np.float64]  # (arms,)
    worths: NDArray[np.float64]  # (arms,)
    weight: float = 1.0

    def best_within(self, budget_s: float) -> int:
        """Return the index of the arm of most worth that ends in time, the faster of equals; else of the fastest."""
        in_time = self.seconds <= budget_s
        if not in_time.any():
            return int(np.argmin(self.seconds))
        worths = np.where(in_time, self.worths, -np.inf)
        equals = np.flatnonzero(worths == worths.max())
        return int(equals[np.argmin(self.seconds[equals])])

    def best_of_each(self, budgets: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return seconds and worth of `best_within` for each budget, (budgets,) each; each must fit the fastest arm."""
        order = np.lexsort((-self.worths, self.seconds))
        seconds, best = self.seconds[order], np.maximum.accumulate(self.worths[order])
        first = np.searchsorted(best, best)  # the fastest arm that is as good as the best so far
        last = np.searchsorted(seconds, budgets, side="right") - 1
        return seconds[first[last]], best[last]


def worth(steps: float, sparsity: float, rank_share: float) -> float:
    """Return the guessed progress of a device's round; `rank_share` is its rank / the largest."""
    return float(steps**0.5 * (1.0 - SPARSITY_COST * sparsity**2) * rank_share**RANK_POWER)


def best_budget(tables: Sequence[Timetable]) -> float:
    """Return the seconds that a round of these devices should take; the shortest of equally good budgets.

    Every device has an arm within it. Raises ValueError without a device.
    """
    if not tables:
        raise ValueError("a budget needs at least one device")
    shortest = max(float(table.seconds.min()) for table in tables)
    longest = max(float(table.seconds.max()) for table in tables)
    if not 0.0 < shortest < longest:
        return shortest
    budgets = np.maximum(shortest, np.geomspace(shortest, longest, GRID))  # rounding leaves no device without an arm
    worths, durations = np.zeros(GRID), np.zeros(GRID)
    for table in tables:
        seconds, best = table.best_of_each(budgets)
        worths += table.weight * best
        durations = np.maximum(durations, seconds)
    return float(durations[int(np.argmax(worths / durations))])


def most_steps(steps: int, rows: int, rows_a_step: int) -> int:
    """Return the most steps of a round that spare time may bring a device to, at least its own `steps`.

    `rows` are its training rows; one step in each round reads `rows_a_step` of them in the whole run.
    """
    return max(steps, min(math.floor(MOST_FACTOR * steps), math.floor(MOST_PASSES * rows / rows_a_step)))
