"""The log of a run, for people and programs: events, rows per round, evaluations."""

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fedcore.core.contract.protocols import Json
from fedcore.core.data.figures import Metrics
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.task import Task
from fedcore.protos.values import EvaluateTask, EvaluatorResult, ExportOutcome, ExportTask, Join, TaskKind
from fedcore.server.run.journal import EventLog, RoundTable
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder


class Observer(Protocol):
    """Gets everything that a run writes, on the thread that writes it, one call at a time; must not raise."""

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take one event."""
        ...

    def rows(self, rows: Sequence[Json]) -> None:
        """Take the outcome records of a round that closes."""
        ...


class RunLog:
    """Events and rows in files, results of the evaluator in the ledger. Safe from the loop and the worker."""

    def __init__(
        self,
        folder: RunFolder,
        ledger: Ledger,
        *,
        task: Task = CLASSIFICATION,
        wall: Callable[[], float] = time.time,
        observers: Sequence[Observer] = (),
        eager: bool = True,
    ) -> None:
        """Append to the files of `folder`, and pass everything on to the observers. `task` is the run's.

        An `eager` log shows every event to readers of the files at once, others at the next turn.
        """
        self._events = EventLog(folder.events, eager=eager)
        self._rows = RoundTable(folder.rounds)
        self._ledger = ledger
        self._task = task
        self._wall = wall
        self._observers = observers
        self._lock = threading.Lock()

    def truncate_after(self, last_round: int) -> None:
        """Drop events of rounds that never closed durably, and restore the rows from the ledger."""
        self._events.truncate_after(last_round)
        self._rows.restore(row for _, _, rows in self._ledger.iter_outcomes() for row in rows)

    def event(self, kind: str, **fields: Any) -> None:
        """Write one event."""
        with self._lock:
            self._write([(kind, fields)])

    def events(self, kind: str, fields: Sequence[Mapping[str, Any]]) -> None:
        """Write several events of one kind at once."""
        with self._lock:
            self._write([(kind, event_fields) for event_fields in fields])

    def turn(self, events: Sequence[Json], rows: Sequence[Json]) -> None:
        """Write a turn's events and rows; called before its commit, so that every durable choice is logged."""
        with self._lock:
            self._write([_split(event) for event in events])
            self._events.flush()
            self._rows.append(rows)
            for observer in self._observers:
                observer.rows(rows)

    def joined(self, join: Join, via: str = "") -> None:
        """Write that a member joined, through the edge `via` or directly."""
        profile = dataclasses.asdict(join.profile) if join.profile is not None else {}
        profile.pop("name", None)
        through = {"via": via} if via else {}
        self.event("joined", device=join.name, role=str(join.role), epoch=join.epoch, **profile, **through)

    def evaluated(self, kind: TaskKind, result: EvaluatorResult) -> None:
        """Store a result of the evaluator; a later one of the same kind replaces it.

        An evaluator of an earlier version knows the dense model alone: it has measured that, whatever the task.
        """
        if isinstance(kind, EvaluateTask) and kind.keep_set is not None and result.keep_set != kind.keep_set.id:
            kind = dataclasses.replace(kind, keep_set=None, device_class="", sparsity=0.0)
        key, label = _key(kind)
        if result.outcome is None:
            self.event("task_failed", task=label, message=result.error)
            return
        figures = self._figures(result.outcome)
        if isinstance(kind, EvaluateTask):
            figures = {**figures, "class": kind.device_class or None, "sparsity": kind.sparsity}
        self._ledger.set_meta(key, figures)
        self.event("evaluated", task=label, **figures)
        if result.floors is not None:
            self._ledger.set_meta(FLOORS_KEY, result.floors.flat())
            self.event("floors", **result.floors.flat())

    def evaluator_came(self) -> None:
        """Store that the run has an evaluator, so that it waits for one at its end, also after a resume."""
        self._ledger.set_meta(EVALUATOR_KEY, True)

    def close(self) -> None:
        """Close the files."""
        self._events.close()
        self._rows.close()

    def _figures(self, outcome: Metrics | ExportOutcome) -> dict[str, Any]:
        """Return the figures of an outcome as they are stored: all of the task's, whatever the evaluator measured."""
        if isinstance(outcome, Metrics):
            return self._task.complete(outcome).flat()
        weights = sum(ref.size for ref in outcome.files if ref.name == "model.safetensors")
        sizes = {field.name: getattr(outcome, field.name) for field in dataclasses.fields(outcome)}
        del sizes["files"]  # they are in exports/
        return sizes | {"metrics": self._task.complete(outcome.metrics).flat(), "size_bytes": weights}

    def _write(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        self._events.extend(self._wall(), events)
        for observer in self._observers:
            for kind, fields in events:
                observer.event(kind, fields)


def _split(event: Json) -> tuple[str, Json]:
    """Return an event's kind and its fields."""
    fields = dict(event)
    return fields.pop("event"), fields


def evaluation_key(round_index: int, *, full: bool) -> str:
    """Return the ledger key of an evaluation: of a round on the sample, or of the final adapter on all rows."""
    return "evaluation/final" if full else f"evaluation/{round_index}"


def close_key(round_index: int) -> str:
    """Return the ledger key of the seconds that closing a round took."""
    return f"close/{round_index}"


def export_key(device_class: str) -> str:
    """Return the ledger key of a device class's export figures."""
    return f"export/{device_class}"


def class_key(device_class: str) -> str:
    """Return the ledger key of a class's pruned model, measured on all rows and not exported."""
    return f"evaluation/class/{device_class}"


REFERENCE_KEY = "evaluation/reference"
FLOORS_KEY = "floors"
EVALUATOR_KEY = "evaluator"


def _key(kind: TaskKind) -> tuple[str, str]:
    if isinstance(kind, EvaluateTask) and kind.device_class and kind.rows == 0:
        return class_key(kind.device_class), f"class {kind.device_class}"
    if isinstance(kind, EvaluateTask):
        label = "final" if kind.rows == 0 else f"round {kind.adapter.round}"
        return evaluation_key(kind.adapter.round, full=kind.rows == 0), label
    if isinstance(kind, ExportTask):
        return export_key(kind.device_class), f"export {kind.device_class}"
    return REFERENCE_KEY, "reference"
