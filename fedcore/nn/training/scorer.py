"""The interface between local training and a criterion, which may watch or alter steps and scores at the end."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.model.geometry import Geometry
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """Numbers per group in dense coordinates, so that they outlive surgery and its undoing."""

    heads: NDArray[np.float32]  # (layers, head units)
    channels: NDArray[np.float32]  # (layers, ffn)

    @staticmethod
    def full(geometry: Geometry, value: float = 0.0) -> "GroupState":
        """Return the same number for every group."""
        return GroupState(
            heads=np.full((geometry.layers, geometry.head_units), value, dtype=np.float32),
            channels=np.full((geometry.layers, geometry.ffn), value, dtype=np.float32),
        )


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

    def scores(self, classifier: Classifier, batch: Batch, objective: Objective | None = None) -> GroupScores:
        """Return the scores of every kept group; `batch` and `objective` (None: the task's) serve for calibration."""
        ...
