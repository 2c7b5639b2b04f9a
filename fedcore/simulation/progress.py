"""The lines a simulation prints: one per round, one per measurement."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedcore.core.contract.protocols import Json
from fedcore.core.data.figures import Figure
from fedcore.core.learning_rate.search import rate_line
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.table import task_named
from fedcore.core.tasks.task import Task

MEGA = 1e6


@dataclass(slots=True, kw_only=True)
class RoundLines:
    """Prints a line for the events that matter (an `Observer` of `fedcore.server.run.run_log`)."""

    say: Callable[[str], None]
    total_rounds: int
    now_s: Callable[[], float]  # real seconds, for the time a round took to simulate
    _closed_s: float | None = None
    _task: Task = CLASSIFICATION

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Print a line for a closed round, a measurement or a refusal."""
        match kind:
            case "started":
                self._task = task_named(fields.get("task", ""))
            case "round_closed":
                self.say(self._round(fields))
            case "evaluated":
                self.say(_evaluated(self._task, fields))
            case "learning_rate":
                self.say(rate_line(fields["learning_rate"], fields["devices"]))
            case "floors":
                self.say(_floors(self._task.headline, fields))
            case "warning":
                self.say(f"warning: {fields['message']}")
            case "refused":
                self.say(f"refused: {fields['message']}")

    def rows(self, rows: Sequence[Json]) -> None:
        """Print nothing: the rows are in rounds.csv."""

    def _round(self, fields: Mapping[str, Any]) -> str:
        now_s, before_s = self.now_s(), self._closed_s
        self._closed_s = now_s
        pace = "" if before_s is None else f", simulated in {now_s - before_s:.1f} s"
        void = " void" if fields["void"] else ""
        return (
            f"round {fields['round']}/{self.total_rounds}{void}: {fields['accepted']} of {fields['devices']} updates, "
            f"{fields['duration_s']:.1f} virtual s, {fields['bytes_up'] / MEGA:.1f} MB up{pace}"
        )


def _evaluated(task: Task, fields: Mapping[str, Any]) -> str:
    metrics = fields.get("metrics", fields)
    whose = f", {fields['class']} at {fields['sparsity']:.0%}" if fields.get("class") else ""
    return f"  {fields['task']}{whose}: {task.words(metrics)}"


def _floors(headline: Figure, fields: Mapping[str, Any]) -> str:
    majority, tfidf = fields["majority"], fields["tfidf"]
    words = "" if tfidf is None else f", TF-IDF with logistic regression {headline.text(tfidf.get(headline.name))}"
    return f"  floors: always {fields['majority_label']!r} {headline.text(majority.get(headline.name))}{words}"
