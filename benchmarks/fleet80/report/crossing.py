"""When a run reaches a target, and where its time went until then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.fleet80.cases.goals import Goal
from benchmarks.fleet80.rounds import PARTS

WINDOW = 3  # rounds whose mean has to reach the target: one lucky round reaches nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """The first round whose running mean is at the target; everything is a sum from the beginning to its end."""

    round: int
    seconds: float
    megabytes: float
    parts: Mapping[str, float]  # seconds by PARTS; they sum to `seconds`


def smoothed(rounds: Sequence[Mapping[str, Any]], goal: Goal) -> list[tuple[Mapping[str, Any], float]]:
    """Return (round, mean of the figure over the last WINDOW measured rounds) from the first that has so many."""
    measured = [record for record in rounds if record["delivered"] is not None]
    values = [record["delivered"][goal.figure] for record in measured]
    return [
        (record, goal.mean(values[end - WINDOW : end])) for end, record in enumerate(measured, start=1) if end >= WINDOW
    ]


def crossing(rounds: Sequence[Mapping[str, Any]], goal: Goal, target: float) -> Crossing | None:
    """Return when the running mean first reaches `target`, None where it never does."""
    for reached, value in smoothed(rounds, goal):
        if goal.reached(value, target):
            until = [record for record in rounds if record["round"] <= reached["round"]]
            return Crossing(
                round=reached["round"],
                seconds=reached["closed_s"],
                megabytes=(reached["bytes_down"] + reached["bytes_up"]) / 1e6,
                parts={part: sum(record[part] for record in until) for part in PARTS},
            )
    return None
