"""The small task as a workload of our simulator: every client of a group at once, by batched matrix products."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.simulation.mlp import SHAPES
from benchmarks.simulation.task import Recipe
from fedcore.core.contract.outcome import TrainingMetrics
from fedcore.core.rounds.result import RoundResult
from fedcore.simulation.workload.workload import Group, GroupResult

Stack = dict[str, torch.Tensor]  # name -> (clients, *shape)


class MlpWorkload:
    """Trains groups on the rows of a case's folder; `clients` gives each device's number."""

    def __init__(self, folder: Path, recipe: Recipe, clients: Mapping[str, int]) -> None:
        with np.load(folder / "task.npz") as stored:
            self._x, self._y = torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"])
        self._recipe, self._clients = recipe, clients

    def train(self, groups: Sequence[Group]) -> Iterator[GroupResult]:
        """Train one group after the other."""
        for group in groups:
            yield self._trained(group)

    def settle(self, closed: RoundResult) -> None:
        """Nothing is kept between rounds."""

    def recover(self, last: RoundResult) -> None:
        """Nothing was kept."""

    def close(self) -> None:
        """Nothing to let go of."""

    def _trained(self, group: Group) -> GroupResult:
        chosen = torch.tensor([self._clients[part.device] for part in group.parts])
        before = {name: torch.tensor(np.asarray(group.adapter[name])) for name in SHAPES}
        values = {name: value.expand(len(chosen), *value.shape).clone() for name, value in before.items()}
        x, y = self._x[chosen], self._y[chosen]
        losses = []
        for _ in range(self._recipe.epochs):
            for begin in range(0, x.shape[1], self._recipe.batch_size):
                batch = slice(begin, begin + self._recipe.batch_size)
                losses.append(sgd_step(values, x[:, batch], y[:, batch], self._recipe.learning_rate))
        increments = {name: (value - before[name]).numpy() for name, value in values.items()}
        return GroupResult(metrics=_metrics(torch.stack(losses)), increments=increments | _still(group))


def sgd_step(values: Stack, x: torch.Tensor, y: torch.Tensor, learning_rate: float) -> torch.Tensor:
    """Take one step of SGD in place, on x (clients, rows, inputs) and y (clients, rows); returns losses (clients,)."""
    w1, b1, w2, b2 = (values[f"head.{layer}.{part}"] for layer in (0, 1) for part in ("weight", "bias"))
    hidden = torch.relu_(torch.baddbmm(b1[:, None], x, w1.mT))  # (clients, rows, hidden)
    log_p = torch.baddbmm(b2[:, None], hidden, w2.mT).log_softmax(-1)  # (clients, rows, classes)
    losses = -log_p.gather(-1, y[..., None]).mean((1, 2))
    slope = log_p.exp_()
    slope.scatter_add_(-1, y[..., None], torch.full((*y.shape, 1), -1.0))
    slope /= y.shape[1]
    back = torch.bmm(slope, w2).mul_(hidden > 0)
    w2.baddbmm_(slope.mT, hidden, alpha=-learning_rate)
    b2.sub_(slope.sum(1), alpha=learning_rate)
    w1.baddbmm_(back.mT, x, alpha=-learning_rate)
    b1.sub_(back.sum(1), alpha=learning_rate)
    return losses


def _metrics(losses: torch.Tensor) -> tuple[TrainingMetrics, ...]:
    """Of the batches themselves: there is no probe batch here. `losses` is (steps, clients)."""
    columns = zip(losses[0].tolist(), losses[-1].tolist(), losses.mean(0).tolist(), strict=True)
    return tuple(
        TrainingMetrics(loss_before=first, loss_after=last, train_loss=mean, peak_memory_mb=0.0, adapter_importance=0.0)
        for first, last, mean in columns
    )


def _still(group: Group) -> dict[str, NDArray[np.float32]]:
    """Increments of the token adapter that a spec must have beside its head: zero."""
    others = {name: value for name, value in group.adapter.items() if name not in SHAPES}
    return {name: np.zeros((len(group.parts), *value.shape), dtype=np.float32) for name, value in others.items()}
