"""What is measured of a model: figures of merit by name, and their values on held-back rows."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Shown = Literal["always", "report", "tables", "lines"]
Values = Mapping[str, float | None]  # by name; None, or no entry: not measured, or not defined on these rows

# Units with a known sampling error:
SHARE = "share"  # of rows that are right, each for itself
CORRELATION = "correlation"  # of answers with targets over the rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of merit. `name` is its key in files and on the wire, `title` its name for people.

    `shown` says where beside tables of figures: in every line about a model, in a report's closing lines and tables, in
    its lines alone, or nowhere.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = True
    shown: Shown = "report"
    digits: int = 3  # after the decimal point
    optional: bool = False  # left out of a report's tables where no model has a value

    def text(self, value: float | None) -> str:
        """Return a value as people read it; "n/a" for one that was not measured."""
        return "n/a" if value is None else f"{value:.{self.digits}f}"

    def of(self, values: Values) -> str:
        """Return its title and its value among others: "accuracy 0.750"."""
        return f"{self.title} {self.text(values.get(self.name))}"

    def error(self, value: float, rows: int) -> float:
        """Return the standard error of a value on so many rows, at least 1; 0 where none is known."""
        if self.unit == SHARE:
            return math.sqrt(value * (1 - value) / rows)
        return (1 - value**2) / math.sqrt(max(1, rows - 1)) if self.unit == CORRELATION else 0.0

    def exceeds(self, value: float, other: float, margin: float = 0.0) -> bool:
        """Whether `value` is better than `other` by more than `margin`."""
        return value - other > margin if self.higher_is_better else other - value > margin


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A held-back row that a model answered: bounded texts without control characters, for people to read."""

    prompt: str
    reference: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The figures of one model on `rows` rows."""

    figures: Values
    rows: int
    answers: tuple[int, ...] = ()  # rows that each label was predicted for, in label order; empty: not known
    samples: tuple[Sample, ...] = ()  # of what a model that writes answers

    def flat(self) -> dict[str, Any]:
        """Return figures, rows and answers in one table, as ledger, events and summary hold them."""
        written = {"samples": [asdict(sample) for sample in self.samples]} if self.samples else {}
        return {**self.figures, "rows": self.rows, "answers": self.answers, **written}
