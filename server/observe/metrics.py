"""A coordinator's or an edge's figures for Prometheus, computed from its events.

`docs/how-to/metrics.md` lists them.

Every `RunMetrics` has a registry of its own; nothing is global. Counters begin at 0 with the process, also in a resumed
run, as Prometheus expects. Safe from any thread: the loop and the worker feed it, scrapes read on threads of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from fedcore.core.contract.outcome import Status
from fedcore.core.contract.phases import Timing
from fedcore.core.contract.protocols import Json
from fedcore.core.text_enum import TextEnum
from fedcore.server.observe.memory import read_memory
from fedcore.server.run.records import TIMED

# Seconds: from an empty round on one host to most of an hour on a thin link.
BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0),
)
ROLES = ("device", "evaluator", "edge")
UPDATE_EVENTS = ("accepted", "late", "rejected", "duplicate", "failed")


class DeviceState(TextEnum):
    """State of a device that has joined; exactly one at a time."""

    IDLE = "idle"  # connected, nothing to do
    IN_ROUND = "in_round"  # connected, working on an assignment
    AWAY = "away"  # its stream closed; its lease may still run
    LOST = "lost"  # its lease ran out in its last closed round


class RunMetrics:
    """Metrics of one run: an observer of its events. A scrape reads `registry`."""

    def __init__(self) -> None:
        """Begin with every figure at 0."""
        self.registry = registry = CollectorRegistry()
        self._states: dict[str, DeviceState] = {}
        self._open: set[tuple[str, str]] = set()  # sessions by role and name: an edge may have a device's name
        self._round = Gauge("fedcore_round", "Number of the round begun last.", registry=registry)
        self._rounds = Counter(
            "fedcore_rounds", "Closed rounds; void ones missed quorum.", ["result"], registry=registry
        )
        self._devices = Gauge("fedcore_devices", "Devices that have been here, by state.", ["state"], registry=registry)
        self._sessions = Gauge("fedcore_sessions", "Open streams and leaves below edges.", ["role"], registry=registry)
        self._refused = Counter("fedcore_joins_refused", "Newcomers that did not fit the run.", registry=registry)
        self._updates = Counter("fedcore_updates", "Updates, by what became of them.", ["result"], registry=registry)
        self._update_bytes = Counter(
            "fedcore_update_bytes",
            "Bytes that counted updates report, as in summary.json.",
            ["direction"],
            registry=registry,
        )
        self._bytes = Counter(
            "fedcore_bytes", "Bytes of gRPC messages, before framing and TLS.", ["direction"], registry=registry
        )
        self._phases = Histogram(
            "fedcore_phase_seconds", "Seconds by phase of a round.", ["phase"], buckets=BUCKETS, registry=registry
        )
        self._round_s = Histogram(
            "fedcore_round_seconds", "Seconds from a round's opening to its close.", buckets=BUCKETS, registry=registry
        )
        self._energy = Counter("fedcore_energy_joules", "Joules of devices that tell theirs.", registry=registry)
        self._clocks = Counter("fedcore_clock_faults", "Updates whose phases cannot be right.", registry=registry)
        registry.register(_Memory())
        self._name_series()

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take one event of events.jsonl."""
        name = fields.get("device", "")
        match kind:
            case "started" if fields.get("next_round") is not None:
                self._round.set(fields["next_round"])
            case "joined":
                self._joined(name, fields["role"])
            case "left":
                self._left(name, fields["role"])
            case "refused":
                self._refused.inc()
            case "pushed":
                self._round.set(fields["round"])
                self._move(name, DeviceState.IN_ROUND)
            case "round_closed":
                self._rounds.labels("void" if fields["void"] else "closed").inc()
                self._round_s.observe(fields["duration_s"])
            case "committed":
                self._phases.labels("close").observe(fields["close_s"])
            case "clock":
                self._clocks.inc()
        if kind in UPDATE_EVENTS:
            self._updates.labels(kind).inc()
            self._rest(name)

    def rows(self, rows: Sequence[Json]) -> None:
        """Take the outcome records of a round that closes."""
        for row in rows:
            if row["status"] == Status.LOST:
                self._move(row["device"], DeviceState.LOST)
            else:
                self._rest(row["device"])
            if row["bytes_up"] is not None:
                self._update_bytes.labels("up").inc(row["bytes_up"])
                self._update_bytes.labels("down").inc(row["bytes_down"])
            self._energy.inc(row.get("energy_j") or 0.0)
            if row["timing"] == Timing.OK:
                for phase in TIMED:
                    if row[f"{phase}_s"] is not None:
                        self._phases.labels(phase).observe(row[f"{phase}_s"])

    def moved(self, direction: str, num_bytes: int) -> None:
        """Count bytes that went "up", towards the coordinator, or "down"."""
        self._bytes.labels(direction).inc(num_bytes)

    def _joined(self, name: str, role: str) -> None:
        self._left(name, role)  # a newer session replaces an older one without an event "left"
        self._open.add((role, name))
        self._sessions.labels(role).inc()
        if role == "device":
            self._move(name, DeviceState.IDLE)

    def _left(self, name: str, role: str) -> None:
        if (role, name) not in self._open:
            return
        self._open.remove((role, name))
        self._sessions.labels(role).dec()
        if role == "device":
            self._move(name, DeviceState.AWAY)

    def _rest(self, name: str) -> None:
        if self._states.get(name) is DeviceState.IN_ROUND:
            self._move(name, DeviceState.IDLE)

    def _move(self, name: str, state: DeviceState) -> None:
        before = self._states.get(name)
        if before is not None:
            self._devices.labels(before).dec()
        self._states[name] = state
        self._devices.labels(state).inc()

    def _name_series(self) -> None:
        """Create every series at the start: a rate over a series misses the event with which it appears."""
        for result in ("closed", "void"):
            self._rounds.labels(result)
        for state in DeviceState:
            self._devices.labels(state)
        for role in ROLES:
            self._sessions.labels(role)
        for kind in UPDATE_EVENTS:
            self._updates.labels(kind)
        for direction in ("up", "down"):
            self._bytes.labels(direction)
            self._update_bytes.labels(direction)
        for phase in (*TIMED, "close"):
            self._phases.labels(phase)


class _Memory:
    """This process's memory, read at every scrape; the client library's own collector has no peak."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        memory = read_memory()
        if memory.resident_bytes is not None:
            yield GaugeMetricFamily(
                "fedcore_resident_memory_bytes", "Memory of this process now.", value=memory.resident_bytes
            )
        yield GaugeMetricFamily(
            "fedcore_resident_memory_peak_bytes", "Most memory this process has held.", value=memory.peak_bytes
        )
