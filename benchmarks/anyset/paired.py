"""Two lines against each other, set by set and skew by skew: points of the 35 % export, paired by seed.

Two budgets. "time": both runs end at about the same virtual time, which takes DENSE_ROUNDS rounds of the methods that
prune nothing. "steps": both have the same rounds, however long they take. The limit of what any use of a device's time
can earn is shown by uniform pruning with twice the rounds, against itself.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from rich.console import Console
from rich.table import Table
from scipy.stats import sem, t

from benchmarks.anyset.cells import PATHOLOGICAL
from benchmarks.anyset.run import Result

DENSE_ROUNDS = "run.rounds=5"  # of methods that prune nothing last as long as eight of FedSpine
TWICE_THE_ROUNDS = "run.rounds=16"
COMPARED = "middle"  # the class whose export has 35 % less
ALLOWED_LOSS = 0.5  # points

Key = tuple[str, str]  # set, skew


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two lines that are compared."""

    line: str
    overrides: tuple[str, ...] = ()

    def holds(self, result: Result) -> bool:
        """Whether a stored result is of this side."""
        return bool(result["line"] == self.line and tuple(result["overrides"]) == self.overrides)


FEDSPINE = Side(line="fedspine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One side less another; `goal` is in points of the `figure`, None where none was set. No `skews`: all."""

    name: str
    theirs: Side
    ours: Side = FEDSPINE
    figure: str = "accuracy"
    goal: float | None = None
    skews: tuple[str, ...] = ()


COMPARISONS = (
    Comparison(name="uniform, equal time", theirs=Side(line="uniform"), goal=2.0),
    Comparison(name="fedit, equal time", theirs=Side(line="fedit", overrides=(DENSE_ROUNDS,)), goal=1.0),
    Comparison(name="hetlora, equal time", theirs=Side(line="hetlora", overrides=(DENSE_ROUNDS,))),
    Comparison(name="random-arms, equal time", theirs=Side(line="random-arms")),
    Comparison(name="fedit, equal steps", theirs=Side(line="fedit")),
    Comparison(
        name="uniform: twice the time less once",
        ours=Side(line="uniform", overrides=(TWICE_THE_ROUNDS,)),
        theirs=Side(line="uniform"),
    ),
    *(
        Comparison(
            name=f"fedit, equal steps, {figure}",
            theirs=Side(line="fedit"),
            figure=figure,
            goal=-2.0,
            skews=PATHOLOGICAL,
        )
        for figure in ("macro_f1", "auc")
    ),
)


def differences(results: Iterable[Result], comparison: Comparison) -> dict[Key, list[float]]:
    """Return our figure less theirs, in points, by set and skew; one for every seed that both have."""
    ours: dict[tuple[Key, int], float] = {}
    theirs: dict[tuple[Key, int], float] = {}
    for result in results:
        place = (result["set"], result["skew"]), result["seed"]
        value = result["classes"][COMPARED].get(comparison.figure)
        if value is None or (comparison.skews and result["skew"] not in comparison.skews):
            continue
        if comparison.ours.holds(result):
            ours[place] = value
        elif comparison.theirs.holds(result):
            theirs[place] = value
    found: dict[Key, list[float]] = defaultdict(list)
    for place in sorted(ours.keys() & theirs.keys()):
        found[place[0]].append(100 * (ours[place] - theirs[place]))
    return dict(found)


def interval(points: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean by Student's t, (mean, half its width); infinitely wide for a single value."""
    centre = mean(points)
    if len(points) < 2:
        return centre, math.inf
    return centre, float(t.ppf(0.975, len(points) - 1) * sem(points))


def print_comparisons(results: Iterable[Result]) -> None:
    """Print the mean over sets of every comparison and skew, a set counting once, with the extremes and the goals."""
    stored = list(results)
    columns = ("FedSpine less", "skew", "sets", "runs", "points", "worst", "best", "goal reached", "over 0.5 below")
    table = Table(
        *columns,
        title=f"export of class {COMPARED}, points of accuracy or what is named: mean over sets, 95 % interval",
    )
    for comparison in COMPARISONS:
        found = differences(stored, comparison)
        for skew in sorted({skew for _, skew in found}):
            cells = [points for (_, own), points in found.items() if own == skew]
            table.add_row(comparison.name, skew, *_row(cells, comparison.goal))
    Console(width=150).print(table)


def _row(cells: Sequence[Sequence[float]], goal: float | None) -> tuple[str, ...]:
    means = [mean(points) for points in cells]
    centre, half = interval(means)
    reached = "" if goal is None else f"{sum(value >= goal for value in means)} of {len(means)}"
    below = f"{sum(value < -ALLOWED_LOSS for value in means)} of {len(means)}"
    runs = sum(map(len, cells))
    return (
        str(len(means)),
        str(runs),
        f"{centre:+.1f} +- {half:.1f}",
        f"{min(means):+.1f}",
        f"{max(means):+.1f}",
        reached,
        below,
    )
