"""Which models a strategy would deliver, and for how many of the fleet's devices each.

A pruning strategy delivers the model as its devices have cut it: at the mean realised sparsity of the round's
counted devices, and after the last round at each class's target. Any other strategy delivers the dense model.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import Status
from fedcore.core.contract.protocols import Json
from fedcore.core.model.keep_set import KeepSet
from fedcore.server.run.preflight import check_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One model and the share of the fleet's devices it is for."""

    keep_set: KeepSet
    share: float
    classes: tuple[str, ...]


def prunes(config: Config) -> bool:
    """Whether any device of a resolved run is ever cut."""
    return any(config.target_sparsity(kind.name) > 0 for kind in config.classes)


def current_sparsity(outcomes: Sequence[Json]) -> float:
    """Return the mean realised sparsity of a round's counted devices; 0 where none counted."""
    sparsities = [row["sparsity"] for row in outcomes if row["status"] == Status.ACCEPTED]
    return sum(sparsities) / len(sparsities) if sparsities else 0.0


def delivered(config: Config, model: Path, state: Json, sparsity: float | None) -> list[Share]:
    """Return the models by keep-set: at one `sparsity` for all, or (None) at each class's target.

    The strategy itself says which groups stay, so that orders of classes or devices count as they are.
    """
    at = config if sparsity is None else _with_target(config, sparsity)
    strategy, devices = check_run(at, model), sum(kind.count for kind in config.classes)
    found: dict[str, Share] = {}
    for kind in config.classes:
        keep_set = strategy.export_keep_set(state, kind.name)
        before = found.get(keep_set.blob_id)
        found[keep_set.blob_id] = Share(
            keep_set=keep_set,
            share=kind.count / devices + (before.share if before else 0.0),
            classes=(*(before.classes if before else ()), kind.name),
        )
    return list(found.values())


def _with_target(config: Config, sparsity: float) -> Config:
    strategy = dataclasses.replace(config.strategy, target_sparsity=sparsity)
    classes = tuple(dataclasses.replace(kind, target_sparsity=None) for kind in config.classes)
    return dataclasses.replace(config, strategy=strategy, classes=classes)
