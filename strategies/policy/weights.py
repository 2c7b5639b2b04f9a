"""Integer aggregation weights of a cohort: how much each device's increment counts in the mean.

- "examples": the number of training rows n, as in FedAvg.
- "effective": what those rows are worth once they are weighted to the fleet's label shares p, Kish's effective sample
  size ("Survey sampling", 1965, section 11.7),

      n_eff = 1 / sum_l p_l^2 / max(n_l, 1/2)  <=  n,   n_l rows of label l,

  which is n where a device has the fleet's shares, and about n_l / p_l^2 where it lacks a label. Devices draw balanced
  batches (fedcore.core.data.label_prior), so one with 325 rows of one label and 6 of the other repeats those 6: its
  increment varies like that of 24 rows, and as one of 331 it sways the whole cohort. Half a row stands for a label that
  is missing. Devices that tell no label counts count by their rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT
from fedcore.core.config.tables import StrategyConfig
from fedcore.core.contract.profile import DeviceProfile

MISSING_ROWS = 0.5
EXAMPLES, EFFECTIVE = "examples", "effective"


def cohort_weights(how: str, cohort: Sequence[DeviceProfile], fleet: Sequence[DeviceProfile]) -> tuple[int, ...]:
    """Return a weight of at least 1 for each of `cohort`; `fleet` are all devices whose labels count, the cohort's too.

    `how` is EXAMPLES or EFFECTIVE.
    """
    rows = [each.num_examples for each in cohort]
    if how == EXAMPLES:
        return integer_weights(rows)
    labels: dict[str, int] = {}
    for each in fleet:  # in plain steps: a Counter's update takes five times as long, and fleets are large
        for label, count in each.label_counts:
            labels[label] = labels.get(label, 0) + count
    return integer_weights(
        [
            max(1, round(effective_rows(dict(each.label_counts), labels))) if each.label_counts else count
            for each, count in zip(cohort, rows, strict=True)
        ]
    )


def weighted(strategy: StrategyConfig) -> StrategyConfig:
    """Return FedSpine's settings: "effective" where the configuration leaves `weights` open."""
    return replace(strategy, weights=strategy.weights or EFFECTIVE)


def effective_rows(local: Mapping[str, int], fleet: Mapping[str, int]) -> float:
    """Return Kish's effective size of rows counted by label, weighted to the label shares of `fleet`; 0 without any."""
    total, held = sum(fleet.values()), sum(local.values())
    if not total:
        return float(held)
    inverse = sum((count / total) ** 2 / max(local.get(label, 0), MISSING_ROWS) for label, count in fleet.items())
    return min(float(held), 1.0 / inverse)


def integer_weights(num_examples: Sequence[int]) -> tuple[int, ...]:
    """Return weights of at least 1, proportional to `num_examples` (each >= 1), whose sum is at most 2^24.

    The numbers themselves where they fit; otherwise scaled down, which rounds each to a multiple of the sum / 2^24.
    """
    total = sum(num_examples)
    if total <= MAX_TOTAL_WEIGHT:
        return tuple(num_examples)
    budget = MAX_TOTAL_WEIGHT - len(num_examples)  # what lifting small ones to 1 may add
    return tuple(max(1, count * budget // total) for count in num_examples)
