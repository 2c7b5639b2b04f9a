"""Magnitude: the L2 norm of all effective weights of a group; the data does not matter.

    score_g = sqrt( sum over its members of sum w^2 ),  w of W + s B A

over the rows of q, k, v, gate and up and the columns of o and down that belong to the group; biases, which adapters
do not change, are left out.

Source: norms of whole structures as importance, Li et al., "Pruning filters for efficient ConvNets", 2017, arXiv
1608.08710, section 3.1 (L1 there, L2 here, as in `fedcore.storage.models.magnitudes`, which orders groups before
any training).
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.criteria.group_scores import column_sums, per_group, row_sums, scores_of_layers
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class MagnitudeScorer:
    """Norms of the effective weights."""

    state: None = None

    def during_steps(self, classifier: Classifier) -> AbstractContextManager[None]:
        """Return an empty context: the training steps stay as they are."""
        return nullcontext()

    def observe(self, classifier: Classifier) -> None:
        """Do nothing: this criterion needs no training step."""

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective | None = None) -> GroupScores:
        """Return the norms; neither batch nor loss is needed."""
        return scores_of_layers(
            [_norms(classifier, layer, "head") for layer in classifier.layers],
            [_norms(classifier, layer, "channel") for layer in classifier.layers],
            classifier.keep_set,
        )


def _norms(classifier: Classifier, layer: int, unit: str) -> torch.Tensor:
    squares = []
    for module in classifier.geometry.modules:
        cut = classifier.geometry.cut(module)
        if cut is not None and cut.unit == unit:
            sums = row_sums if cut.side == "out" else column_sums
            squares.append(per_group(sums(classifier.linear(layer, module), torch.square), cut))
    return torch.stack(squares).sum(dim=0).sqrt()
