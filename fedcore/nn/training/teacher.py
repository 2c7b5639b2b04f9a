"""The dense model's answers for the rows that a device trains on, computed once a round by forward passes.

They are its logits. A model that writes has too many of these: its hidden states are kept instead, at the positions
whose next token is answered. The student's output layer, which is the teacher's too, makes logits of them in chunks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.nn.accelerator.precision import autocast
from fedcore.nn.losses.table import LOSSES
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import NO_TARGET, Batch, EncodedRows
from fedcore.nn.training.evaluate import asked, predict

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStates:
    """Hidden states at the answered positions of every row, (positions, hidden) each; none for rows not asked about."""

    rows: tuple[torch.Tensor, ...]

    def __getitem__(self, indices: Indices) -> torch.Tensor:
        """Return the states of the rows at `indices`, one row after the other, (positions, hidden)."""
        return torch.cat([self.rows[index] for index in indices])


Answers = NDArray[np.float32] | AnswerStates  # the array: (rows, width); NaN for rows that do not train
Teacher = Callable[[EncodedRows, Indices], Answers]


def answers(classifier: Classifier, rows: EncodedRows, wanted: Indices, batch_size: int) -> Answers:
    """Return the answers to the `wanted` rows (ascending, without repeats), a batch of `batch_size` at a time.

    They carry no label shift.
    """
    if LOSSES[classifier.task.loss].states is not None:
        return _states(classifier, rows, wanted, batch_size)
    table = np.full((len(rows), classifier.outputs), np.nan, dtype=np.float32)
    if len(wanted):
        table[wanted] = predict(classifier, rows.select(wanted), batch_size)
    return table


def _states(classifier: Classifier, rows: EncodedRows, wanted: Indices, batch_size: int) -> AnswerStates:
    found = [torch.empty(0, classifier.geometry.hidden)] * len(rows)
    if len(wanted):
        chosen = rows.select(wanted)
        for indices, states in asked(classifier, chosen, _states_of_batch, batch_size):
            counts = [_answered(chosen.token_targets[place]) for place in indices]
            for place, own in zip(indices, torch.split(states, counts), strict=True):
                found[wanted[place]] = own.clone()  # not a view that keeps the batch
    return AnswerStates(rows=tuple(found))


def _states_of_batch(classifier: Classifier, batch: Batch) -> torch.Tensor:
    states = LOSSES[classifier.task.loss].states
    if states is None:
        raise ValueError(f"the loss of task {classifier.task.name} is no loss of hidden states")
    with autocast(classifier.precision, classifier.device):
        return states(classifier, batch)


def _answered(targets: tuple[int, ...]) -> int:
    """Return how many tokens of a row are answered: a position answers with the token after it."""
    return sum(target != NO_TARGET for target in targets[1:])
