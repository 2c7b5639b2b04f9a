"""A round's cohort: the devices that take part, and the weight of each device's increment in the mean.

Devices are drawn uniformly without replacement. Their integer weights are

- "examples": the number of training rows n, as in FedAvg;
- "effective": the effective number of these rows under the fleet's label shares p, Kish's effective sample size
  ("Survey sampling", 1965, section 11.7),

      n_eff = 1 / sum_l p_l^2 / max(n_l, 1/2)  <=  n,   n_l rows of label l,

  which is n for a device with the fleet's shares, and about n_l / p_l^2 for one that lacks a label. Devices draw
  balanced batches (fedcore.core.data.label_prior), so one with 325 rows of one label and 6 of the other repeats those
  6: its increment varies like that of 24 rows, and with a weight of 331 it would sway the whole cohort. A missing label
  counts as half a row. A device that reports no label counts is weighted by its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT
from fedcore.core.config.tables import Config, StrategyConfig
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.seeds import generator
from fedcore.strategies.policy.feasible import schedule_of

MISSING_ROWS = 0.5
EXAMPLES, EFFECTIVE = "examples", "effective"


class CohortMember(NamedTuple):
    """A device of a round's cohort."""

    profile: DeviceProfile
    weight: int  # in the aggregate, at least 1
    score: bool  # whether it sends its groups' importances: a cut lies ahead


def draw_cohort(config: Config, roster: Sequence[DeviceProfile], round_index: int) -> tuple[CohortMember, ...]:
    """Return the devices of a round, sorted by name; equal arguments give equal cohorts."""
    rng = generator(config.run.seed, "cohort", round_index)
    profiles = sample_cohort(roster, config.strategy.cohort, rng)
    weights = cohort_weights(config.strategy.weights or EXAMPLES, profiles, roster)
    scoring = scoring_classes(config, {profile.device_class for profile in profiles}, round_index)
    return tuple(
        CohortMember(profile, weight, profile.device_class in scoring)
        for profile, weight in zip(profiles, weights, strict=True)
    )


def sample_cohort(roster: Sequence[DeviceProfile], size: int, rng: np.random.Generator) -> tuple[DeviceProfile, ...]:
    """Return `size` devices of `roster`, drawn uniformly without replacement and sorted by name; 0 takes all."""
    ordered = sorted(roster, key=lambda profile: profile.name)
    if size < 1 or size >= len(ordered):
        return tuple(ordered)
    sample = rng.choice(len(ordered), size=size, replace=False)
    return tuple(ordered[index] for index in sorted(int(index) for index in sample))


def scoring_classes(config: Config, present: set[str], round_index: int) -> set[str]:
    """Return the classes with scores that still matter; with one order for the fleet, those are all or none."""
    classes = present | {kind.name for kind in config.classes}
    ahead = {name for name in classes if schedule_of(config, name).cuts_ahead(round_index)}
    return classes if ahead and config.strategy.order == "fleet" else ahead


def cohort_weights(how: str, cohort: Sequence[DeviceProfile], fleet: Sequence[DeviceProfile]) -> tuple[int, ...]:
    """Return the weight of every device of `cohort`, at least 1; `how` is EXAMPLES or EFFECTIVE.

    `fleet` has all devices with labels that count, including the cohort.
    """
    rows = [profile.num_examples for profile in cohort]
    if how == EXAMPLES:
        return integer_weights(rows)
    labels: dict[str, int] = {}
    for profile in fleet:  # a plain loop: Counter.update takes five times as long, and fleets are large
        for label, count in profile.label_counts:
            labels[label] = labels.get(label, 0) + count
    return integer_weights(
        [
            max(1, round(effective_rows(dict(profile.label_counts), labels))) if profile.label_counts else count
            for profile, count in zip(cohort, rows, strict=True)
        ]
    )


def weighted(strategy: StrategyConfig) -> StrategyConfig:
    """Return FedSpine's settings: with `weights` "effective" where the configuration sets none."""
    return replace(strategy, weights=strategy.weights or EFFECTIVE)


def effective_rows(local: Mapping[str, int], fleet: Mapping[str, int]) -> float:
    """Return Kish's effective size of rows counted by label, weighted to the label shares of `fleet`; 0 without any."""
    total, rows = sum(fleet.values()), sum(local.values())
    if not total:
        return float(rows)
    inverse = sum((count / total) ** 2 / max(local.get(label, 0), MISSING_ROWS) for label, count in fleet.items())
    return min(float(rows), 1.0 / inverse)


def integer_weights(num_examples: Sequence[int]) -> tuple[int, ...]:
    """Return weights of at least 1, proportional to `num_examples` (each >= 1), whose sum is at most 2^24.

    They are the numbers themselves if the sum fits; otherwise they are scaled down, in steps of the sum / 2^24.
    """
    total = sum(num_examples)
    if total <= MAX_TOTAL_WEIGHT:
        return tuple(num_examples)
    budget = MAX_TOTAL_WEIGHT - len(num_examples)  # raising small ones to 1 may add the rest
    return tuple(max(1, count * budget // total) for count in num_examples)
