"""Outcomes and rounds as plain JSON records: what the ledger, rounds.csv and the summary hold."""

from collections.abc import Sequence
from operator import attrgetter

from fedcore.core.contract.outcome import PHASES, DeviceReport, Outcome, Status
from fedcore.core.contract.phases import Timing, account
from fedcore.core.contract.protocols import AggregateReport, Json
from fedcore.core.rounds.result import RoundResult
from fedcore.protos.tier_values import LeafOutcome

TIMED = (*PHASES, "wait", "fold")  # what is known of every counted update's time, by device or parent
_METRICS = ("loss_before", "loss_after", "train_loss", "peak_memory_mb")
_FIGURES = ("bytes_down", "bytes_up", *_METRICS, "steps")
_figures_of = attrgetter("bytes_down", "bytes_up", *(f"metrics.{name}" for name in _METRICS), "steps")
_MEASURED = (*(f"{phase}_s" for phase in PHASES), *_FIGURES)
_NOT_REPORTED: Json = dict.fromkeys(_MEASURED)


def outcome_record(outcome: Outcome, reward: float | None, weight: int) -> Json:
    """One device's part in one round; figures it did not report are None."""
    report = outcome.report
    if report is None:
        measured = _NOT_REPORTED
    else:
        phases = [report.phase_s.get(phase, 0.0) for phase in PHASES]
        measured = dict(zip(_MEASURED, (*phases, *_figures_of(report)), strict=True))
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
    }


def relayed_record(leaf: LeafOutcome) -> Json:
    """What an edge's metrics take of one device's part in a round: status, seconds and bytes."""
    report = leaf.report
    return {
        "device": leaf.device,
        "status": str(Status.ACCEPTED if leaf.counted else Status.REJECTED),
        **{f"{phase}_s": report.phase_s.get(phase, 0.0) if report else None for phase in PHASES},
        "bytes_down": report.bytes_down if report else None,
        "bytes_up": report.bytes_up if report else None,
        **_accounted(leaf.time_s, report, leaf.fold_s if leaf.counted else None),
    }


def clock_events(rows: Sequence[Json]) -> list[Json]:
    """One event for every device whose phases cannot have fitted into its time."""
    keys = ("round", "device", "time_s", "overrun_s")
    return [{"event": "clock", **{key: row[key] for key in keys}} for row in rows if row["timing"] == Timing.CLOCK]


def round_record(closed: RoundResult, report: AggregateReport, aggregate_s: float, rows: Sequence[Json]) -> Json:
    """One round over all its devices. Phase times are means over the devices whose phases fit into their time."""
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
    }


def _accounted(time_s: float, report: DeviceReport | None, fold_s: float | None) -> Json:
    if report is None:
        return {"wait_s": None, "fold_s": fold_s, "overrun_s": None, "timing": None}
    known = account(time_s, report.phase_s, repushed=report.repushed)
    return {"wait_s": known.wait_s, "fold_s": fold_s, "overrun_s": known.overrun_s, "timing": str(known.timing)}


def _mean(rows: Sequence[Json], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return sum(values) / len(values) if values else None
