"""Figures of the summary that more than one row or round decides."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from fedcore.core.contract.protocols import AggregateReport, Json
from fedcore.core.model.geometry import geometry_from_config
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.records import outcome_record, round_record
from fedcore.server.run.summary import build_summary, total_steps
from fedcore.strategies.table import make_strategy
from tests.server.run.test_records import closed, outcome
from tests.tiny_run import MODEL, device_report, tiny_config


@dataclass
class FakeLedger:
    """Rounds as a ledger has them, and no figure of an evaluator."""

    rounds: dict[int, tuple[Json, list[Json]]]

    def outcomes(self) -> dict[int, list[Json]]:
        return {number: rows for number, (_, rows) in self.rounds.items()}

    def reports(self) -> dict[int, Json]:
        return {number: report for number, (report, _) in self.rounds.items()}

    def get_meta(self, key: str) -> Any:
        return None


def row(device: str, peak_mb: float, device_class: str = "tiny") -> Json:
    report = device_report()
    metrics = replace(report.metrics, peak_memory_mb=peak_mb)
    counted = replace(outcome(device), report=replace(report, metrics=metrics), device_class=device_class)
    return outcome_record(counted, 0.5, 3)


def summary_of(place: Path, *rounds: tuple[bool, list[Json]]) -> Json:
    """Return the summary of rounds, each void or not."""
    reports = {
        number: (round_record(closed(void=void), AggregateReport(weight=3, updates=len(rows)), 0.75, rows), rows)
        for number, (void, rows) in enumerate(rounds, start=1)
    }
    config = tiny_config(place)
    strategy = make_strategy(config, geometry_from_config(MODEL), (("head.bias", (2,)), ("head.weight", (2, 12))))
    return build_summary(
        config=config,
        ledger=cast(Ledger, FakeLedger(reports)),
        strategy=strategy,
        state=strategy.start(),
        classes=["tiny", "absent"],
        status="finished",
    )


def test_a_classes_peak_is_the_most_that_any_of_its_devices_reported_in_any_round(tmp_path: Path) -> None:
    silent = outcome_record(outcome("d", counted=False), None, 4)
    rounds = (False, [row("a", 2.0), row("b", 7.0), row("c", 9.0, "other")]), (False, [row("a", 3.0), silent])
    classes = summary_of(tmp_path, *rounds)["classes"]
    assert list(classes) == ["tiny", "absent"]
    assert classes["tiny"]["peak_training_memory_mb"] == 7.0 and classes["absent"]["peak_training_memory_mb"] is None


def test_totals_are_sums_over_rounds_void_ones_included(tmp_path: Path) -> None:
    rounds = (False, [row("a", 2.0), row("b", 2.0)]), (True, [row("a", 2.0)]), (False, [row("b", 2.0)])
    summary = summary_of(tmp_path, *rounds)
    assert summary["totals"] == {
        "rounds": 3,
        "void_rounds": 1,
        "duration_s": 10.5,
        "bytes_up": 200,
        "bytes_down": 400,
        "steps": 40,
    }
    assert total_steps({1: [row("a", 2.0)], 2: [outcome_record(outcome("b", counted=False), None, 4)]}) == 10
