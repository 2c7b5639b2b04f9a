"""Outcomes and rounds as plain JSON records, for the ledger, rounds.csv and the summary."""

import math
from collections.abc import Sequence
from operator import attrgetter

from fedcore.core.contract.outcome import PHASES, DeviceReport, Outcome, Status
from fedcore.core.contract.phases import Timing, account
from fedcore.core.contract.protocols import AggregateReport, Json
from fedcore.core.rounds.result import RoundResult
from fedcore.protos.tier_values import LeafOutcome

TIMED = (*PHASES, "wait", "fold")  # parts of a counted update's time, measured by the device or its parent
_METRICS = ("loss_before", "loss_after", "train_loss", "peak_memory_mb")
_FIGURES = ("bytes_down", "bytes_up", *_METRICS, "steps")
_metrics_of = attrgetter(*_METRICS)
_MEASURED = (*(f"{phase}_s" for phase in PHASES), *_FIGURES)
_NOT_REPORTED: Json = dict.fromkeys(_MEASURED)


def outcome_record(outcome: Outcome, reward: float | None, weight: int) -> Json:
    """Return the record of one device in one round; figures that it did not report are None."""
    report = outcome.report
    if report is None:
        measured = _NOT_REPORTED
    else:
        phases = [report.phase_s.get(phase, 0.0) for phase in PHASES]
        figures = report.bytes_down, report.bytes_up, *_metrics_of(report.metrics), report.steps
        measured = dict(zip(_MEASURED, (*phases, *figures), strict=True))
    return {
        "round": outcome.round,
        "device": outcome.device,
        "class": outcome.device_class,
        "status": str(outcome.status),
        "sparsity": outcome.arm.sparsity,
        "rank": outcome.arm.rank,
        "reward": reward,
        "weight": weight,
        "time_s": outcome.time_s,
        **measured,
        **_accounted(outcome.time_s, report, outcome.fold_s),
        "network": outcome.network,
        **_spent(report),
    }


def relayed_record(outcome: LeafOutcome) -> Json:
    """Return the record of one device below an edge for the edge's metrics: status, seconds and bytes."""
    report = outcome.report
    return {
        "device": outcome.device,
        "status": str(Status.ACCEPTED if outcome.counted else Status.REJECTED),
        **{f"{phase}_s": report.phase_s.get(phase, 0.0) if report else None for phase in PHASES},
        "bytes_down": report.bytes_down if report else None,
        "bytes_up": report.bytes_up if report else None,
        **_accounted(outcome.time_s, report, outcome.fold_s if outcome.counted else None),
    }


def clock_events(rows: Sequence[Json]) -> list[Json]:
    """Return one event for every device with phases that do not fit into its time."""
    keys = ("round", "device", "time_s", "overrun_s")
    return [{"event": "clock", **{key: row[key] for key in keys}} for row in rows if row["timing"] == Timing.CLOCK]


def round_record(closed: RoundResult, report: AggregateReport, aggregate_s: float, rows: Sequence[Json]) -> Json:
    """Return the record of one round. Phase times are means over the devices with phases that fit into their time."""
    reported = [row for row in rows if row["steps"] is not None]
    timed = [row for row in reported if row["timing"] == Timing.OK]
    return {
        "round": closed.round,
        "void": closed.void,
        "devices": len(rows),
        "accepted": len(closed.accepted),
        "duration_s": closed.closed_at_s - closed.opened_at_s,
        "phase_s": {phase: _mean(timed, f"{phase}_s") for phase in TIMED} | {"aggregate": aggregate_s},
        "bytes_down": sum(row["bytes_down"] for row in reported),
        "bytes_up": sum(row["bytes_up"] for row in reported),
        "weight": report.weight,
        "dropped_energy": report.dropped_energy,
        "clock_faults": sum(row["timing"] == Timing.CLOCK for row in rows),
        **energy_of(rows),
    }


def energy_of(records: Sequence[Json]) -> Json:
    """Return {"energy_j": joules} of records of devices or of rounds that know theirs; empty where none does."""
    known = [record["energy_j"] for record in records if record.get("energy_j") is not None]
    return {"energy_j": sum(known)} if known else {}


def _spent(report: DeviceReport | None) -> Json:
    """Return what the device's machine told of energy and heat; nothing where it told nothing."""
    told = {} if report is None else {"energy_j": report.energy_j, "temperature_c": report.temperature_c}
    return {name: value for name, value in told.items() if value is not None and math.isfinite(value)}


def _accounted(time_s: float, report: DeviceReport | None, fold_s: float | None) -> Json:
    if report is None:
        return {"wait_s": None, "fold_s": fold_s, "overrun_s": None, "timing": None}
    times = account(time_s, report.phase_s, repushed=report.repushed)
    return {"wait_s": times.wait_s, "fold_s": fold_s, "overrun_s": times.overrun_s, "timing": str(times.timing)}


def _mean(rows: Sequence[Json], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return sum(values) / len(values) if values else None
