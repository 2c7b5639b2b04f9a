"""FedSpine against another line, set by set and skew by skew: points of accuracy of the 35 % export, paired by seed.

Two budgets. "time": both runs end at about the same virtual time, which takes DENSE_ROUNDS rounds of the methods that
prune nothing. "steps": both have the same rounds, however long they take.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from rich.console import Console
from rich.table import Table
from scipy.stats import sem, t

from benchmarks.anyset.run import Result

OURS = "fedspine"
DENSE = ("fedit", "hetlora")
DENSE_ROUNDS = "run.rounds=5"  # of DENSE last as long as eight of FedSpine
COMPARED = "middle"  # the class whose export has 35 % less
ALLOWED_LOSS = 0.5  # points

Key = tuple[str, str]  # set, skew


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What FedSpine is measured against; `goal` is in points of accuracy, None where none was set."""

    line: str
    budget: str  # "time" or "steps"
    goal: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.line}, equal {self.budget}"

    def holds(self, result: Result) -> bool:
        """Whether a stored result is of the other side."""
        wanted = [DENSE_ROUNDS] if self.line in DENSE and self.budget == "time" else []
        return bool(result["line"] == self.line and result["overrides"] == wanted)


COMPARISONS = (
    Comparison(line="uniform", budget="time", goal=2.0),
    Comparison(line="fedit", budget="time", goal=1.0),
    Comparison(line="hetlora", budget="time"),
    Comparison(line="random-arms", budget="time"),
    Comparison(line="fedit", budget="steps"),
)


def differences(results: Iterable[Result], comparison: Comparison) -> dict[Key, list[float]]:
    """Return FedSpine's accuracy less the other's, in points, by set and skew; one for every seed that both have."""
    ours: dict[tuple[Key, int], float] = {}
    theirs: dict[tuple[Key, int], float] = {}
    for result in results:
        place = (result["set"], result["skew"]), result["seed"]
        if result["line"] == OURS and not result["overrides"]:
            ours[place] = result["classes"][COMPARED]["accuracy"]
        elif comparison.holds(result):
            theirs[place] = result["classes"][COMPARED]["accuracy"]
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
    columns = ("FedSpine minus", "skew", "sets", "runs", "points", "worst", "best", "goal reached", "over 0.5 below")
    table = Table(*columns, title=f"accuracy of the export of class {COMPARED}: mean over sets, 95 % interval")
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
