"""The learning rate of every strategy: the same search and the same rule for all of them, FedSpine included.

Three rates, one seed that no reported result uses, a third of the rounds. The rule: the lowest cross-entropy on the
rows measured every round, of the model the strategy would deliver after the last round (docs/benchmarks/fleet80.md).
The loss and not the accuracy, since 400 rows separate losses that accuracies do not separate.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.fleet80.cases.case import FOLDER, TUNING_SEED, Case, make_case
from benchmarks.fleet80.cases.tracks import Track
from benchmarks.fleet80.cases.variants import VARIANTS, Variant
from benchmarks.fleet80.stored import Result, load


def tuning_cases(track: Track, variant: Variant, overrides: tuple[str, ...] = ()) -> list[Case]:
    """Return the runs of a variant's search, those of another variant where it takes that one's rate."""
    searched = VARIANTS[variant.tuned_as or variant.name]
    return [
        make_case(track, searched, seed=TUNING_SEED, rate=rate, tuning=True, overrides=overrides)
        for rate in track.rates
    ]


def tuned_rate(track: Track, variant: Variant, base: Path = FOLDER, overrides: tuple[str, ...] = ()) -> float | None:
    """Return the rate that a variant's stored search chose; None where the search is not complete."""
    results = {case.rate: load(case, base) for case in tuning_cases(track, variant, overrides)}
    found = {rate: result for rate, result in results.items() if result is not None}
    return (
        best_rate({rate: last_loss(result) for rate, result in found.items()}) if len(found) == len(results) else None
    )


def best_rate(losses: Mapping[float, float]) -> float:
    """Return the rate with the lowest loss, the smaller one of two alike; a loss that is no number is the worst."""
    return min(losses, key=lambda rate: (math.inf if math.isnan(losses[rate]) else losses[rate], rate))


def last_loss(result: Result) -> float:
    """Return the loss of the model delivered after the last round that was measured; NaN where none was."""
    measured: Sequence[float] = [
        record["delivered"]["loss"] for record in result["rounds"] if record["delivered"] is not None
    ]
    return measured[-1] if measured else math.nan
