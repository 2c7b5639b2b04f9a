"""The interface between local training and a criterion, which may watch or alter steps and scores at the end."""

from contextlib import AbstractContextManager
from typing import Protocol

from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.group_state import GroupState
from fedcore.nn.training.objective import PLAIN, Objective


class Scorer(Protocol):
    """Scores the groups of a model; local training calls it."""

    @property
    def state(self) -> GroupState | None:
        """The state for the device's next round; None for a criterion without one."""
        ...

    def during_steps(self, classifier: Classifier) -> AbstractContextManager[None]:
        """Return the context of the training steps; probe losses and scoring stay outside."""
        ...

    def observe(self, classifier: Classifier) -> None:
        """See the gradients of one training step, after its backward pass."""
        ...

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective = PLAIN) -> GroupScores:
        """Return the scores of every kept group; `batch` and `objective` serve for calibration."""
        ...
