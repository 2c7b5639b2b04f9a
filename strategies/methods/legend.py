"""LEGEND: each device trains the adapters of as many layers, counted from the output, as its speed allows.

Liu et al., "Adaptive parameter-efficient federated fine-tuning on heterogeneous devices" (LEGEND), 2024, arXiv
2412.20004. A device's LoRA depth bounds its backward pass, its activations and its upload. Here, with t_k(d) the
modelled time of device k's round at depth d (fedcore.strategies.policy.cost: hand-out, steps, upload) and L layers,

    d_k = max {d in 1..L : t_k(d) <= T and a step fits its memory},    T = mean of t_k(L) over the cohort

or 1 where there is no such d: depth brings a device slower than the cohort's mean as close to it as possible. The
fastest device always trains all layers, even if rounding puts the mean of equal times below all of them.

A layer's mean is over the devices that trained it (`fedcore.core.aggregation.layer_mean`). Two parts differ. The paper
gives every layer its own rank, rising towards the output; here all layers have the largest rank. The paper tracks
capacities by moving averages; here the cost model's figures decide.
"""

from fedcore.core.config.tables import Config
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import unpruned
from fedcore.strategies.policy.arm_choice import Choice
from fedcore.strategies.policy.part_choice import CohortCosts, PartChoice


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: FedIT's; `strategy.aggregator` has no effect."""
    return unpruned(config, aggregator="layer-mean", ranks=config.strategy.ranks[-1:])


def _by_depth(geometry: Geometry) -> PartChoice:
    return PartChoice(least=TrainedPart(first_layer=geometry.layers - 1), choose=depths)


def depths(cohort: CohortCosts) -> list[TrainedPart]:
    """Return the part that each device trains: its depth d as the first trained layer, L - d."""
    times = [cohort.seconds(choice, EVERYTHING) for choice in cohort.choices]
    limit_s = max(min(times), sum(times) / len(times)) if times else 0.0
    return [_deepest(cohort, choice, limit_s) for choice in cohort.choices]


def _deepest(cohort: CohortCosts, choice: Choice, limit_s: float) -> TrainedPart:
    layers = cohort.cost.spec.geometry.layers
    for first in range(layers - 1):
        part = TrainedPart(first_layer=first)
        if cohort.seconds(choice, part) <= limit_s and cohort.fits(choice, part):
            return part
    return TrainedPart(first_layer=layers - 1)


METHOD = Method(name="legend", settings=settings, part=_by_depth)
