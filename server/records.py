"""Outcomes and rounds as plain JSON records: what the ledger, rounds.csv and the summary hold."""

from collections.abc import Sequence
from typing import Any

from fedcore.outcome import PHASES, Outcome
from fedcore.protocols import AggregateReport, Json
from fedcore.rounds.result import RoundResult


def outcome_record(outcome: Outcome, reward: float | None, weight: int) -> Json:
    """One device's part in one round; figures it did not report are None."""
    report = outcome.report
    record: dict[str, Any] = {
        "round": outcome.round,
        "device": outcome.device,
        "class": outcome.device_class,
        "status": str(outcome.status),
        "sparsity": outcome.arm.sparsity,
        "rank": outcome.arm.rank,
        "reward": reward,
        "weight": weight,
        "time_s": outcome.time_s,
    }
    for phase in PHASES:
        record[f"{phase}_s"] = report.phase_s.get(phase, 0.0) if report else None
    for name in ("bytes_down", "bytes_up", "loss_before", "loss_after", "train_loss", "peak_memory_mb", "steps"):
        record[name] = getattr(report, name) if report else None
    return record


def round_record(closed: RoundResult, report: AggregateReport, aggregate_s: float, rows: Sequence[Json]) -> Json:
    """One round over all its devices. Phase times are means over the devices that reported."""
    reported = [row for row in rows if row["steps"] is not None]
    phases = {
        phase: sum(row[f"{phase}_s"] for row in reported) / len(reported) if reported else None for phase in PHASES
    }
    return {
        "round": closed.round,
        "void": closed.void,
        "devices": len(rows),
        "accepted": len(closed.accepted),
        "duration_s": closed.closed_at_s - closed.opened_at_s,
        "phase_s": phases | {"aggregate": aggregate_s},
        "bytes_down": sum(row["bytes_down"] for row in reported),
        "bytes_up": sum(row["bytes_up"] for row in reported),
        "weight": report.weight,
        "dropped_energy": report.dropped_energy,
    }
