"""What a track is judged by: a figure of the delivered model, and values of it whose virtual time is told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure by its name in results, and its targets from the easiest on.

    `falls`: less is better, as of a perplexity; rounds are averaged in its logarithm.
    """

    figure: str
    title: str
    targets: tuple[float, ...]
    share: bool = True  # in [0, 1], told in per cent
    falls: bool = False

    def reached(self, value: float, target: float) -> bool:
        """Whether a value is at a target."""
        return value <= target if self.falls else value >= target

    def mean(self, values: Sequence[float]) -> float:
        """Return the mean of values; the geometric one of a figure that falls."""
        if self.falls:
            return math.exp(sum(map(math.log, values)) / len(values))
        return sum(values) / len(values)

    def shown(self, value: float) -> float:
        """Return a value in the unit that it is told in."""
        return 100 * value if self.share else value

    def text(self, value: float) -> str:
        """Return a value for a table."""
        return f"{self.shown(value):.2f}"

    def target_text(self, target: float) -> str:
        """Return a target with its figure, as in "75 %" or "perplexity 20"."""
        return f"{self.title} {target:g}" if not self.share else f"{100 * target:.0f} %{self._of()}"

    @property
    def head(self) -> str:
        """The column of a table."""
        return f"{self.title} %" if self.share else self.title

    def _of(self) -> str:
        return "" if self.figure == "accuracy" else f" {self.title}"


def accuracy(*targets: float) -> Goal:
    """Return the goal of a track of classifiers."""
    return Goal(figure="accuracy", title="accuracy", targets=targets)
