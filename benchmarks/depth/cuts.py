"""Where a cut goes: scores and influences of one model, and the keep-set of a sparsity by what may be removed."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Json
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.kinds import CHANNELS, HEADS, LAYERS
from fedcore.core.pruning.ordering import ScoredGroups, absorb, counts_at, freeze, initial_order, keep_set
from fedcore.nn.criteria.influence import block_influences
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch

WAYS = {"width": (HEADS, CHANNELS), "depth": (LAYERS,), "both": (HEADS, CHANNELS, LAYERS)}
SMOOTHING = 0.7  # as strategies average scores over rounds

Measure = Callable[[Classifier, Batch], GroupScores]


def scored(classifier: Classifier, batches: Sequence[Batch], measure: Measure) -> GroupScores:
    """Return the means over the batches of the group scores by `measure`, and of the influences of blocks."""
    found = [replace(measure(classifier, batch), layers=block_influences(classifier, batch)) for batch in batches]
    return GroupScores(
        heads=tuple(np.mean(rows, axis=0) for rows in zip(*(each.heads for each in found), strict=True)),
        channels=tuple(np.mean(rows, axis=0) for rows in zip(*(each.channels for each in found), strict=True)),
        layers=np.mean([each.layers for each in found if each.layers is not None], axis=0),
    )


def first_order(classifier: Classifier, way: str) -> Json:
    """Return the removal order of a way before any score."""
    return initial_order(classifier.geometry, remove=WAYS[way])


def learned(order: Json, classifier: Classifier, scores: GroupScores) -> Json:
    """Return the order after scores of the model as it is cut now."""
    measured = ScoredGroups(scores=scores, keep_set=classifier.keep_set, weight=1)
    return absorb(order, classifier.geometry, [measured], SMOOTHING)


def cut_at(order: Json, classifier: Classifier, sparsity: float) -> tuple[Json, KeepSet]:
    """Return the order frozen up to a sparsity, and the keep-set there."""
    geometry = classifier.geometry
    counts = counts_at(order, geometry, sparsity)
    dense = geometry.dense
    removed = dense._replace(
        heads=dense.heads - counts.heads,
        channels=dense.channels - counts.channels,
        removed_layers=counts.removed_layers,
    )
    return freeze(order, geometry, removed), keep_set(order, geometry, counts)
