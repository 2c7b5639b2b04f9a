"""Shared by federated LoRA methods without pruning: the whole model on every device, no bandit, ranks by speed."""

from collections.abc import Mapping
from dataclasses import replace

from fedcore.core.config.tables import ClassConfig, Config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.strategies.policy.cost import RoundCost


def unpruned(config: Config, *, aggregator: str, ranks: tuple[int, ...] | None = None) -> Config:
    """Return the configuration without pruning, with this aggregator, these ranks, and no bandit.

    Each device gets the largest feasible rank. `ranks` None leaves `strategy.ranks` unchanged.
    Target sparsities, of the strategy and of every class, `strategy.bandit`, `strategy.aggregator`, `strategy.factors`,
    `strategy.pace` and `strategy.local_steps_choices` have no effect.
    """
    strategy = replace(
        config.strategy,
        target_sparsity=0.0,
        ranks=config.strategy.ranks if ranks is None else ranks,
        bandit="fixed",
        aggregator=aggregator,
        factors="both",
        local_steps_choices=(),
        pace="off",
        context=False,
    )
    classes = tuple(replace(kind, target_sparsity=None) for kind in config.classes)
    return replace(config, strategy=strategy, classes=classes)


def ranks_by_speed(config: Config, cost: RoundCost) -> Mapping[str, tuple[int, ...]]:
    """Return the ranks that devices of each configured class may have, ascending; the last is the class's rank.

    Classes are ordered by the modelled time of a round, link and compute, with the whole model at the largest rank, and
    spread evenly over `strategy.ranks`; equal times have equal ranks. Smaller ranks stay for devices with too little
    memory for the class's rank.
    """
    ranks, dense = config.strategy.ranks, cost.spec.geometry.dense
    times = {kind.name: cost.seconds(_profile(kind), dense, ranks[-1]) for kind in config.classes}
    levels = sorted(set(times.values()))  # fastest first
    last = len(ranks) - 1
    index_of = {time: last - round(place * last / max(1, len(levels) - 1)) for place, time in enumerate(levels)}
    return {name: ranks[: index_of[time] + 1] for name, time in times.items()}


def _profile(kind: ClassConfig) -> DeviceProfile:
    return DeviceProfile(
        name=kind.name,
        device_class=kind.name,
        num_examples=1,
        slowdown=kind.slowdown,
        uplink_mbps=kind.uplink_mbps,
        downlink_mbps=kind.downlink_mbps,
    )
