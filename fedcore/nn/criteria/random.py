"""Random scores: the baseline that every criterion has to beat.

Scores are uniform in [0, 1), drawn from the assignment's seed, so that they differ from device to device and round to
round; the mean over a fleet is then as random, only closer together.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.seeds import generator
from fedcore.nn.criteria.group_scores import scores_of_layers
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomScorer:
    """Random scores, equal for equal seeds."""

    seed: int
    state: None = None

    def during_steps(self, classifier: Classifier) -> AbstractContextManager[None]:
        """Return an empty context: the training steps stay as they are."""
        return nullcontext()

    def observe(self, classifier: Classifier) -> None:
        """Do nothing: this criterion needs no training step."""

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective | None = None) -> GroupScores:
        """Draw the scores; neither batch nor loss is needed."""
        rng = generator(self.seed, "importance")
        kept = classifier.keep_set
        return scores_of_layers(
            [torch.from_numpy(rng.random(len(kept.heads[layer]))) for layer in kept.layers],
            [torch.from_numpy(rng.random(len(kept.channels[layer]))) for layer in kept.layers],
            kept,
        )
