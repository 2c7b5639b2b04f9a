"""The progress of a run, computed from its events; the view draws it. Pure, so that it can be tested and replayed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fedcore.core.contract.protocols import Json
from fedcore.core.data.figures import Figure, Values
from fedcore.core.learning_rate.search import rate_line
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.table import task_named
from fedcore.core.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLine:
    """One device's row in the view."""

    device_class: str = ""
    state: str = "starting"
    sparsity: float | None = None
    rank: int | None = None
    reward: float | None = None
    loss: float | None = None
    time_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """The last figures of one model: of the one a class would get now, or, without a class, of the dense one."""

    figures: Values
    round: int
    device_class: str = ""
    sparsity: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """The state of a run after some of its events. Times are wall-clock seconds since 1970, sizes are bytes."""

    total_rounds: int
    round: int = 0
    closed: int = 0  # closed rounds, without void ones
    closed_before: int = 0  # of these, rounds closed before the coordinator's last start
    void: int = 0
    started_t: float | None = None
    first_round_t: float | None = None  # time of the first choice since the coordinator's last start
    closed_t: float | None = None
    last_t: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    task: Task = CLASSIFICATION
    evaluated_round: int | None = None
    models: Mapping[str, Evaluated] = field(default_factory=dict)  # by class; "" is the dense one
    floors: tuple[tuple[str, float], ...] = ()  # (name, the headline figure)
    devices: Mapping[str, DeviceLine] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def remaining_s(self) -> float | None:
        """Estimated seconds until the last round closes; None until a round has closed since the last start."""
        num_timed = self.closed - self.closed_before
        if not num_timed or self.first_round_t is None or self.closed_t is None or self.last_t is None:
            return None
        round_s = (self.closed_t - self.first_round_t) / num_timed
        return round_s * (self.total_rounds - self.closed) - (self.last_t - self.closed_t)


def advance(progress: RunProgress, event: Json) -> RunProgress:
    """Return the progress after one event of events.jsonl."""
    return replace(progress, last_t=event["t"], **_changes(progress, event))


def _changes(progress: RunProgress, event: Json) -> dict[str, Any]:
    """Return the fields that an event changes, so that every event costs one copy: a round has dozens of events."""
    match event["event"]:
        case "started":
            return _started(progress, event)
        case "joined" if event.get("role") == "device":
            return _device(progress, event, state="idle", device_class=event.get("device_class", ""))
        case "refused":
            return _with_note(progress, f"refused: {event['message']}")
        case "left" if event["device"] in progress.devices:
            return _device(progress, event, state="away")
        case "choice":
            arm = event.get("realised") or event["arm"]
            device = _device(progress, event, state="assigned", sparsity=arm["sparsity"], rank=arm["rank"])
            return device | {"round": event["round"], "first_round_t": progress.first_round_t or event["t"]}
        case "pushed":
            return _device(progress, event, state="training")
        case "accepted":
            return _device(progress, event, state="done")
        case "rejected" | "late" | "failed" as kind:
            note = f"{event['device']}, round {event['round']}: {event.get('message', kind)}"
            return _device(progress, event, state=kind) | _with_note(progress, note)
        case "clock":
            note = f"{event['device']}, round {event['round']}: its phases exceed its time; look after its clock"
            return _with_note(progress, note)
        case "reward":
            return _device(progress, event, reward=event["reward"])
        case "round_closed":
            return _closed(progress, event)
        case "evaluated" if event["task"].startswith("round"):
            return _evaluated(progress, event)
        case "learning_rate":
            return _with_note(progress, rate_line(event["learning_rate"], event["devices"]))
        case "floors":
            return {"floors": _floors(event, progress.task.headline)}
        case "task_failed":
            return _with_note(progress, f"{event['task']}: {event['message']}")
    return {}


def _started(progress: RunProgress, event: Json) -> dict[str, Any]:
    """Return the changes of a start: the pause before it is not part of a round's time, and no device has joined."""
    return {
        "task": task_named(event.get("task", "")),
        "started_t": progress.started_t or event["t"],
        "first_round_t": None,
        "closed_before": progress.closed,
        "devices": {name: replace(line, state="starting") for name, line in progress.devices.items()},
    }


def _evaluated(progress: RunProgress, event: Json) -> dict[str, Any]:
    model = Evaluated(
        figures=progress.task.values(event),
        round=int(event["task"].split()[1]),
        device_class=event.get("class") or "",
        sparsity=event.get("sparsity", 0.0),
    )
    return {"evaluated_round": model.round, "models": {**progress.models, model.device_class: model}}


def _floors(event: Json, headline: Figure) -> tuple[tuple[str, float], ...]:
    words = () if event["tfidf"] is None else (("TF-IDF", event["tfidf"][headline.name]),)
    return ((f"always {event['majority_label']!r}", event["majority"].get(headline.name)), *words)


def _closed(progress: RunProgress, event: Json) -> dict[str, Any]:
    return {
        "closed_t": event["t"],
        "closed": progress.closed + (not event["void"]),
        "void": progress.void + bool(event["void"]),
        "bytes_up": progress.bytes_up + event["bytes_up"],
        "bytes_down": progress.bytes_down + event["bytes_down"],
    }


def _with_note(progress: RunProgress, note: str) -> dict[str, Any]:
    return {"notes": (*progress.notes, note)}


def _device(progress: RunProgress, event: Json, **changes: Any) -> dict[str, Any]:
    name = event["device"]
    return {"devices": {**progress.devices, name: replace(progress.devices.get(name, DeviceLine()), **changes)}}
