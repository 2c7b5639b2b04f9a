"""A task as a value: what trains a model, what is measured of it, and how that is told.

Whoever asks what a run measures asks its task; nobody else knows one figure from another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.data.figures import Figure, Metrics, Shown, Values
from fedcore.core.errors import ConfigError

Targets = NDArray[Any]  # (rows,): int64 or float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. `figures` are in the order of tables; the first is the headline, which floors are compared in.

    `measure` gives their values from what a model answers, (rows, width) float32, and from the targets, (rows,).
    `loss` is a name in `fedcore.nn.losses.table`.
    """

    name: str
    figures: tuple[Figure, ...]
    measure: Callable[[NDArray[np.float32], Targets], Metrics]
    loss: str

    def __post_init__(self) -> None:
        names = [figure.name for figure in self.figures]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"task {self.name!r}: expected one figure or more, of different names; got {names}")

    @property
    def headline(self) -> Figure:
        """The figure that a model is judged by first."""
        return self.figures[0]

    def shown(self, *places: Shown) -> tuple[Figure, ...]:
        """Return the figures that are shown in these places."""
        return tuple(figure for figure in self.figures if figure.shown in places)

    def values(self, measured: Values | None) -> dict[str, float | None]:
        """Return a value for every figure, in order; None for what was not measured."""
        return {figure.name: (measured or {}).get(figure.name) for figure in self.figures}

    def complete(self, metrics: Metrics) -> Metrics:
        """Return metrics with a value for every figure of the task, and for no other."""
        return Metrics(figures=self.values(metrics.figures), rows=metrics.rows, answers=metrics.answers)

    def words(self, measured: Values, *places: Shown) -> str:
        """Return the headline, and what else is shown there and was measured: "accuracy 0.750, AUC 0.812"."""
        others = (figure for figure in self.shown("always", *places) if measured.get(figure.name) is not None)
        chosen = (self.headline, *(figure for figure in others if figure != self.headline))
        return ", ".join(figure.of(measured) for figure in chosen)
