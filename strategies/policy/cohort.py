"""A round's cohort: the devices that take part, and the weight of each device's increment in the mean.

Devices are drawn uniformly without replacement. Their integer weights are

- "examples": the number of training rows n, as in FedAvg;
- "effective": the effective number of these rows as the device draws them, Kish's effective sample size ("Survey
  sampling", 1965, section 11.7),

      n_eff = 1 / sum_l d_l^2 / n_l  <=  n,   n_l rows of label l, of which batches have the share d_l,

  moved so that devices which lack labels do not outvote the others (fedcore.core.data.label_votes). Devices draw
  balanced batches (fedcore.core.data.label_prior): one with 325 rows of one label and 6 of the other draws those 6
  eight times as often, so its increment varies like that of 174 rows. A device with the fleet's shares draws rows
  evenly and counts by all of them, and so does a device of one label: all that the fleet knows of it may be there (one
  hospital, one diagnosis). Without balanced batches, and on a device that reports no label counts, rows count as they
  are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT
from fedcore.core.config.tables import Config, StrategyConfig
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.data.label_prior import balanced_shares
from fedcore.core.data.label_votes import cancelled_votes, rows_by_label
from fedcore.core.seeds import generator
from fedcore.strategies.policy.feasible import schedule_of

EXAMPLES, EFFECTIVE = "examples", "effective"
FINEST = 1000.0  # least sum of weights that are no numbers of rows: rounding must not undo what they are for

Floats = NDArray[np.float64]


class CohortMember(NamedTuple):
    """A device of a round's cohort."""

    profile: DeviceProfile
    weight: int  # in the aggregate, at least 1
    score: bool  # whether it sends its groups' importances: a cut lies ahead


def draw_cohort(config: Config, roster: Sequence[DeviceProfile], round_index: int) -> tuple[CohortMember, ...]:
    """Return the devices of a round, sorted by name; equal arguments give equal cohorts."""
    rng = generator(config.run.seed, "cohort", round_index)
    profiles = sample_cohort(roster, config.strategy.cohort, rng)
    balanced = config.training.label_skew == "balance"
    weights = cohort_weights((config.strategy.weights or EXAMPLES) if balanced else EXAMPLES, profiles, roster)
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
    if not labels:
        return integer_weights(rows)
    return integer_weights(_skewed_weights([dict(profile.label_counts) for profile in cohort], labels, rows))


def weighted(strategy: StrategyConfig) -> StrategyConfig:
    """Return FedSpine's settings: with `weights` "effective" where the configuration sets none."""
    return replace(strategy, weights=strategy.weights or EFFECTIVE)


def effective_rows(counts: Floats, shares: Floats) -> Floats:
    """Return Kish's effective number of rows, (devices,), from rows and shares in batches, (devices, labels).

    0 for a device without rows.
    """
    inverse = np.divide(shares**2, counts, out=np.zeros_like(shares), where=counts > 0).sum(axis=1)
    effective: Floats = np.divide(1.0, inverse, out=np.zeros_like(inverse), where=inverse > 0)
    return effective


def _skewed_weights(local: Sequence[Mapping[str, int]], fleet: Mapping[str, int], rows: Sequence[int]) -> list[int]:
    """Return the weights of devices with rows of these labels; one that reports none counts by its `rows`."""
    counts = rows_by_label(local, fleet)
    total = rows_by_label([fleet], fleet)[0]
    shares = balanced_shares(counts, total)
    effective = effective_rows(counts, shares)
    effective = np.where(effective > 0, np.maximum(1.0, effective), rows)
    even = balanced_shares(total[None], total)[0]  # of a device with the rows of all
    weights = cancelled_votes(effective, shares, even)
    if weights is not effective:
        weights = weights * max(1.0, FINEST / weights.sum())
    return [max(1, round(weight)) for weight in weights.tolist()]


def integer_weights(num_examples: Sequence[int]) -> tuple[int, ...]:
    """Return weights of at least 1, proportional to `num_examples` (each >= 1), whose sum is at most 2^24.

    They are the numbers themselves if the sum fits; otherwise they are scaled down, in steps of the sum / 2^24.
    """
    total = sum(num_examples)
    if total <= MAX_TOTAL_WEIGHT:
        return tuple(num_examples)
    budget = MAX_TOTAL_WEIGHT - len(num_examples)  # raising small ones to 1 may add the rest
    return tuple(max(1, count * budget // total) for count in num_examples)
