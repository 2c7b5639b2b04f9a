"""What a criterion is to local training: it may watch or alter steps, and says scores at the end."""

from contextlib import AbstractContextManager
from typing import Protocol

from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.group_state import GroupState
from fedcore.nn.training.objective import PLAIN, Objective


class Scorer(Protocol):
    """Where group scores come from."""

    @property
    def state(self) -> GroupState | None:
        """What the device keeps for the next round; None for a criterion without memory."""
        ...

    def during_steps(self, classifier: Classifier) -> AbstractContextManager[None]:
        """Return what stands around the training steps; probe losses and scoring stay outside."""
        ...

    def observe(self, classifier: Classifier) -> None:
        """See the gradients of one training step, after its backward pass."""
        ...

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective = PLAIN) -> GroupScores:
        """Return the scores of every kept group; `batch` and the loss of training serve for calibration."""
        ...
