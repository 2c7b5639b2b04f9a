"""A task as a value: rows in, outputs and loss of a model, and what is measured of it and told.

Whoever asks what a run measures asks its task; nobody else knows one figure from another.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.data.figures import Figure, Metrics, Shown, Values
from fedcore.core.errors import ConfigError

Targets = NDArray[Any]  # (rows,): int64 or float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Where the targets of a run mostly lie: what its members agree on, so that all have the same unit.

    It limits nothing. Four units are as long as the range, so that targets spread evenly over it, or two standard
    deviations to either side of their mean, differ by about one unit. Raises ConfigError unless `low` < `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.low < self.high and math.isfinite(self.high - self.low)):
            raise ConfigError(f"task.low {self.low:g} must be below task.high {self.high:g}, both finite")

    @staticmethod
    def of(values: NDArray[np.float64]) -> "Range":
        """Return two standard deviations to either side of the mean of values (rows,) that are not all the same."""
        mean, width = float(values.mean()), 2 * float(values.std())
        return Range(low=mean - width, high=mean + width)

    @property
    def unit(self) -> float:
        """One unit, in that of the targets."""
        return (self.high - self.low) / 4

    @property
    def centre(self) -> float:
        """The middle, in units."""
        return (self.low + self.high) / 2 / self.unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The one answer that does best for every row: its name for people, and the outputs (width,) that say it."""

    name: str
    outputs: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. `figures` are in the order of tables; the first is the headline, which floors are compared in.

    `labelled`: every row has one of the labels that the run agrees on; without, the agreed list is empty. `targets`
    turns a target column and the agreed labels into numbers of `target_type`, (rows,), and raises DataError for text
    that is none. `outputs` is the width of a head, ModelError where there can be none, and 0 where the model's own
    output layer serves, frozen; `model_class` is a class of
    transformers with such a head, and `config_keys` what its config says of the task. `measure` gives the figures from
    what a model answers, (rows, width) float32, and from the targets. `loss` is a name in `fedcore.nn.losses.table`,
    `encoder` one in `fedcore.nn.encoding.table`. `forms`: columns of text and of answers that rows are looked for under
    where no others are named; rows with them are read as `fedcore.core.data.dialogue` says.

    For a task without labels: `fault` says what is wrong with the text of one target, "" where nothing is; `constant`
    gives the best blind answer from targets that are known, the floor of such a task. Where targets have a unit that a
    run agrees on, `over` gives the task over a range, and `range` is the one that this value is over.
    """

    name: str
    figures: tuple[Figure, ...]
    labelled: bool
    targets: Callable[[Sequence[str], Sequence[str]], Targets]
    target_type: type[np.int64] | type[np.float32]
    outputs: Callable[[Sequence[str]], int]
    model_class: str
    config_keys: Callable[[Sequence[str]], dict[str, Any]]
    measure: Callable[[NDArray[np.float32], Targets], Metrics]
    loss: str
    fault: Callable[[str], str] | None = None
    constant: Callable[[Targets], Constant] | None = None
    over: "Callable[[Range | None], Task] | None" = None
    range: Range | None = None
    encoder: str = "texts"
    forms: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        names = [figure.name for figure in self.figures]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"task {self.name!r}: expected one figure or more, of different names; got {names}")

    def counts(self, column: Iterable[str]) -> tuple[tuple[str, int], ...]:
        """Return the rows by label, sorted, that a device tells the fleet; nothing under a task without labels."""
        return tuple(sorted(Counter(column).items())) if self.labelled else ()

    @property
    def spec(self) -> str:
        """The task as it travels: its name, with the range that its targets are over, as "regression:1.0:5.0"."""
        return self.name if self.range is None else f"{self.name}:{self.range.low!r}:{self.range.high!r}"

    @property
    def usual_columns(self) -> str:
        """The columns that rows are looked for under, for messages."""
        return ", ".join(" and ".join(filter(None, form)) for form in self.forms)

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
        return replace(metrics, figures=self.values(metrics.figures))

    def words(self, measured: Values, *places: Shown) -> str:
        """Return the headline, and what else is shown there and was measured: "accuracy 0.750, AUC 0.812"."""
        others = (figure for figure in self.shown("always", *places) if measured.get(figure.name) is not None)
        chosen = (self.headline, *(figure for figure in others if figure != self.headline))
        return ", ".join(figure.of(measured) for figure in chosen)
