"""The table of stored results: one line a cell without its seed, means over seeds, and what the goals ask for."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from rich.console import Console
from rich.table import Table

from benchmarks.pruned_lm.cells import NONE
from benchmarks.pruned_lm.run import Result

Key = tuple[float, str, str, str, int, tuple[str, ...]]  # sparsity, criterion, way, recovery, steps, overrides


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a cut model of a sparsity should reach: shares of the dense models' figures."""

    exact_match: float  # at least, of dense federated tuning
    general_perplexity: float  # at most, of the dense model as it comes
    speedup: float  # at least


GOALS = {
    0.2: Goal(exact_match=0.98, general_perplexity=1.3, speedup=1.15),
    0.5: Goal(exact_match=0.92, general_perplexity=3.0, speedup=1.6),
}
FIGURES = ("exact_match", "perplexity", "general_perplexity", "speedup")


def by_cell(results: Iterable[Result]) -> dict[Key, list[Result]]:
    """Return the results of every cell without its seed, in the order of the keys."""
    found: dict[Key, list[Result]] = defaultdict(list)
    for result in results:
        cut = result["sparsity"], result["criterion"], result["way"]
        key: Key = (*cut, result["recovery"], result["budget"], tuple(result["overrides"]))
        found[key].append(result)
    return {key: found[key] for key in sorted(found, key=lambda key: (key[4], key[3], key[2], key[1], key[0], key[5]))}


def mean_of(results: Sequence[Result], figure: str) -> float:
    """Return the mean of a figure over seeds."""
    return mean(float(result[figure]) for result in results)


def ratios(cells: dict[Key, list[Result]], key: Key) -> tuple[float | None, float | None]:
    """Return exact match over that of dense tuning, and general perplexity over the base's, of the same budget.

    None where the stored results have not what they are compared with.
    """
    own = cells[key]
    tuned = _dense(cells, "lora", key[4])
    base = _dense(cells, NONE, key[4])
    score = None if tuned is None else mean_of(own, "exact_match") / max(1e-9, mean_of(tuned, "exact_match"))
    english = None if base is None else mean_of(own, "general_perplexity") / mean_of(base, "general_perplexity")
    return score, english


def print_table(results: Iterable[Result], console: Console | None = None) -> None:
    """Print every cell's figures, their shares of the dense models', and whether the goals are met."""
    cells = by_cell(results)
    columns = ("cut", "criterion", "way", "recovery", "steps", "seeds", "exact match", "of dense", "perplexity")
    table = Table(*columns, "general", "of base", "tokens/s", "times dense", "goals", "s")
    for key, found in cells.items():
        sparsity, criterion, way, recovery, steps, overrides = key
        score, english = ratios(cells, key)
        table.add_row(
            f"{sparsity:.0%}",
            criterion,
            way,
            " ".join((recovery, *overrides)),
            str(steps),
            str(len(found)),
            f"{mean_of(found, 'exact_match'):.3f}",
            _times(score),
            f"{mean_of(found, 'perplexity'):.2f}",
            f"{mean_of(found, 'general_perplexity'):.1f}",
            _times(english),
            f"{mean_of(found, 'tokens_per_s'):.1f}",
            _times(mean_of(found, "speedup")),
            _met(sparsity, score, english, mean_of(found, "speedup")),
            f"{mean_of(found, 'seconds'):.0f}",
        )
    (console or Console(width=170)).print(table)


def _met(sparsity: float, score: float | None, english: float | None, speedup: float) -> str:
    """Return which goals are met: "score -english speed"; a minus stands before those that are not."""
    goal = GOALS.get(sparsity)
    if goal is None:
        return ""
    met = {
        "score": score is not None and score >= goal.exact_match,
        "english": english is not None and english <= goal.general_perplexity,
        "speed": speedup >= goal.speedup,
    }
    return " ".join(name if reached else f"-{name}" for name, reached in met.items())


def _dense(cells: dict[Key, list[Result]], recovery: str, steps: int) -> list[Result] | None:
    return next((found for key, found in cells.items() if (key[0], key[3], key[4]) == (0.0, recovery, steps)), None)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
