"""What a run writes while it goes on: events in order, the evaluator's word in the ledger, stable keys."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import PHASES, Outcome, Status
from fedcore.core.contract.protocols import AggregateReport, Json
from fedcore.core.data.metrics import Metrics
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.rounds.result import MemberResult, RoundResult
from fedcore.protos.values import (
    BlobRef,
    EvaluateTask,
    EvaluatorResult,
    ExportOutcome,
    ExportTask,
    GlobalAdapter,
    ReferenceTask,
)
from fedcore.server.run.journal import COLUMNS, read_events
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.records import clock_events, outcome_record, round_record
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import REFERENCE_KEY, RunLog, close_key, evaluation_key, export_key
from fedcore.server.run.summary import build_summary, total_steps
from fedcore.server.run.turn_record import TurnRecord
from fedcore.strategies.table import make_strategy
from tests.server.members.test_admission import JOIN
from tests.tiny_run import MODEL, PHASE_S, device_report, tiny_config

METRICS = Metrics(accuracy=0.75, auc=None, macro_f1=0.7, loss=0.5, rows=8)
REF = BlobRef(id="sha256:" + "a" * 64, size=1)
ADAPTER = GlobalAdapter(round=2, rank_blocks=(REF,), head=REF)
ROW_KEYS = ["round", "device", "class", "status", "sparsity", "rank", "reward", "weight", "time_s"]
ROW_KEYS += [*(f"{phase}_s" for phase in PHASES), "bytes_down", "bytes_up", "loss_before", "loss_after"]
ROW_KEYS += ["train_loss", "peak_memory_mb", "steps", "wait_s", "fold_s", "overrun_s", "timing", "network"]
ROUND_KEYS = ["round", "void", "devices", "accepted", "duration_s", "phase_s", "bytes_down", "bytes_up", "weight"]
ROUND_KEYS += ["dropped_energy", "clock_faults"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.create(tmp_path / "ledger.sqlite", run_id="run", config_toml="", fingerprint="x")
    yield made
    made.close()


@pytest.fixture
def log(tmp_path: Path, ledger: Ledger) -> Iterator[RunLog]:
    made = RunLog(RunFolder(tmp_path), ledger, wall=lambda: 12.5)
    yield made
    made.close()


def events(tmp_path: Path) -> list[Json]:
    return list(read_events(tmp_path / "events.jsonl"))


def outcome(device: str, *, counted: bool = True) -> Outcome:
    return Outcome(
        device=device,
        device_class="tiny",
        round=1,
        arm=Arm(sparsity=0.25, rank=4),
        status=Status.ACCEPTED if counted else Status.LOST,
        time_s=2.0,
        report=device_report() if counted else None,
        fold_s=0.125 if counted else None,
    )


def closed(void: bool = False) -> RoundResult:
    member = MemberResult(device="a", status=Status.ACCEPTED, pushed_at_s=1.0, accepted_at_s=2.0)
    return RoundResult(round=1, void=void, members=(member,), opened_at_s=1.0, closed_at_s=4.5)


def test_events_carry_their_time_and_rows_their_round(tmp_path: Path, log: RunLog) -> None:
    log.event("left", device="a")
    log.turn([{"event": "choice", "round": 1}, {"event": "reward", "round": 1}], [outcome_record(outcome("a"), 0.5, 3)])
    assert [(each["t"], each["event"]) for each in events(tmp_path)] == [
        (12.5, "left"),
        (12.5, "choice"),
        (12.5, "reward"),
    ]
    header, row = (tmp_path / "rounds.csv").read_text().splitlines()
    assert header == ",".join(COLUMNS) and row.startswith("1,a,tiny,accepted,0.25,4,0.5,3,2.0")


def test_what_was_not_committed_is_dropped_from_both_files(tmp_path: Path, log: RunLog) -> None:
    for number in (1, 2, 3):
        log.turn([{"event": "choice", "round": number}], [{**outcome_record(outcome("a"), 0.5, 3), "round": number}])
    log.event("left", device="a")
    log.truncate_after(1)
    assert [each.get("round") for each in events(tmp_path)] == [1, None]
    assert len((tmp_path / "rounds.csv").read_text().splitlines()) == 1, "the ledger has no round"


def test_a_join_is_logged_with_its_profile(tmp_path: Path, log: RunLog) -> None:
    log.joined(JOIN)
    (event,) = events(tmp_path)
    assert event["device"] == "agx-0" and event["role"] == "device" and event["device_class"] == "agx"
    assert event["num_examples"] == 1 and event["epoch"] == 1 and "name" not in event


def test_the_evaluators_word_is_kept_under_its_key_and_the_last_one_counts(
    tmp_path: Path, log: RunLog, ledger: Ledger
) -> None:
    evaluate = EvaluateTask(adapter=ADAPTER, rows=5, lora_scale=2.0)
    final = EvaluateTask(adapter=ADAPTER, rows=0, lora_scale=2.0)
    export = ExportTask(device_class="agx", adapter=ADAPTER, keep_set=REF, lora_scale=2.0)
    reference = ReferenceTask(
        start=ADAPTER, steps=1, rank=1, batch_size=1, learning_rate=1.0, weight_decay=0.0, lora_scale=2.0, seed=0
    )
    made = ExportOutcome(
        metrics=METRICS,
        files=(BlobRef(id=REF.id, size=70, name="model.safetensors"), BlobRef(id=REF.id, size=9, name="config.json")),
        parameters=10,
        dense_parameters=20,
        latency_s=0.5,
        dense_latency_s=1.0,
        dense_size_bytes=80,
    )
    for kind, result in ((evaluate, METRICS), (final, METRICS), (export, made), (reference, METRICS)):
        log.evaluated(kind, EvaluatorResult(id=1, outcome=result))
    assert [each["task"] for each in events(tmp_path)] == ["round 2", "final", "export agx", "reference"]
    for key in (evaluation_key(2, full=False), evaluation_key(0, full=True), REFERENCE_KEY):
        assert ledger.get_meta(key) == {"accuracy": 0.75, "auc": None, "macro_f1": 0.7, "loss": 0.5, "rows": 8}
    assert ledger.get_meta(export_key("agx"))["size_bytes"] == 70
    assert "files" not in ledger.get_meta(export_key("agx"))
    log.evaluated(evaluate, EvaluatorResult(id=2, outcome=Metrics(accuracy=0.5, auc=0.5, macro_f1=0, loss=1, rows=8)))
    assert ledger.get_meta(evaluation_key(2, full=False))["accuracy"] == 0.5


def test_a_failed_task_is_said_and_leaves_earlier_figures(tmp_path: Path, log: RunLog, ledger: Ledger) -> None:
    kind = EvaluateTask(adapter=ADAPTER, rows=0, lora_scale=2.0)
    log.evaluated(kind, EvaluatorResult(id=1, outcome=None, error="no rows"))
    (event,) = events(tmp_path)
    assert (event["event"], event["task"], event["message"]) == ("task_failed", "final", "no rows")
    assert ledger.get_meta(evaluation_key(0, full=True)) is None


def test_a_devices_record_has_stable_keys_and_none_for_what_it_did_not_say() -> None:
    counted, lost = outcome_record(outcome("a"), 0.5, 3), outcome_record(outcome("b", counted=False), None, 4)
    assert list(counted) == list(lost) == ROW_KEYS
    assert counted["train_s"] == PHASE_S and counted["steps"] == 10
    assert counted["wait_s"] == 2.0 - 5 * PHASE_S and counted["fold_s"] == 0.125
    assert counted["timing"] == "ok" and counted["overrun_s"] == 0.0 and lost["network"] == ""
    unknown = ROW_KEYS[ROW_KEYS.index("download_s") : -1]
    assert all(lost[key] is None for key in (*unknown, "reward")) and lost["weight"] == 4


def test_a_rounds_record_is_made_of_those_that_reported() -> None:
    rows = [outcome_record(outcome("a"), 0.5, 3), outcome_record(outcome("b", counted=False), None, 4)]
    record = round_record(closed(), AggregateReport(weight=3, updates=1, dropped_energy=0.125), 0.75, rows)
    assert list(record) == ROUND_KEYS
    assert record["duration_s"] == 3.5 and record["devices"] == 2 and record["accepted"] == 1
    means = dict.fromkeys(PHASES, PHASE_S) | {"wait": 2.0 - 5 * PHASE_S, "fold": 0.125}
    assert record["phase_s"] == means | {"aggregate": 0.75} and record["clock_faults"] == 0
    assert (record["bytes_down"], record["bytes_up"], record["dropped_energy"]) == (100, 50, 0.125)
    nobody = round_record(closed(void=True), AggregateReport(weight=0, updates=0), 0.0, rows[1:])
    assert nobody["phase_s"] == dict.fromkeys((*PHASES, "wait", "fold")) | {"aggregate": 0.0}
    assert nobody["bytes_up"] == 0


def strange(device: str, **changes: Any) -> Json:
    report = replace(device_report(), phase_s={"train": 9.0, "upload": 1.0}, **changes)
    return outcome_record(replace(outcome(device), report=report), 0.5, 3)


def test_phases_that_cannot_have_fitted_are_kept_flagged_and_left_out_of_means() -> None:
    broken, earlier = strange("b"), strange("c", repushed=True)
    assert (broken["train_s"], broken["wait_s"], broken["overrun_s"], broken["timing"]) == (9.0, None, 8.0, "clock")
    assert (earlier["wait_s"], earlier["timing"]) == (None, "repushed")
    rows = [outcome_record(outcome("a"), 0.5, 3), broken, earlier]
    record = round_record(closed(), AggregateReport(weight=9, updates=3), 0.5, rows)
    assert record["phase_s"]["train"] == PHASE_S and record["clock_faults"] == 1
    (event,) = clock_events(rows)
    assert event == {"event": "clock", "round": 1, "device": "b", "time_s": 2.0, "overrun_s": 8.0}


def commit(ledger: Ledger) -> None:
    rows = [outcome_record(outcome("a"), 0.5, 3), outcome_record(outcome("b", counted=False), None, 4)]
    report = round_record(closed(), AggregateReport(weight=3, updates=1), 0.75, rows)
    ledger.commit_turn(
        TurnRecord(
            closed=closed(),
            outcomes=tuple(rows),
            report=report,
            strategy_state={},
            global_blobs=(),
            void_streak=0,
            next_round=None,
        )
    )


def summary_of(ledger: Ledger, tmp_path: Path) -> Json:
    config = tiny_config(tmp_path)
    strategy = make_strategy(config, geometry_from_config(MODEL), (("head.bias", (2,)), ("head.weight", (2, 12))))
    return build_summary(
        config=config, ledger=ledger, strategy=strategy, state=strategy.start(), classes=["tiny"], status="finished"
    )


def test_the_summary_has_stable_keys_and_none_where_nobody_measured(tmp_path: Path, ledger: Ledger) -> None:
    commit(ledger)
    summary = summary_of(ledger, tmp_path)
    assert (
        list(summary) == ["schema", "run", "global", "classes", "networks", "totals", "rounds"]
        and summary["schema"] == 1
    )
    assert list(summary["run"]) == ["name", "status", "seed", "strategy", "aggregator", "bandit"]
    assert summary["global"] == {"untrained": None, "final": None, "reference": None}
    assert list(summary["totals"]) == ["rounds", "void_rounds", "duration_s", "bytes_up", "bytes_down", "steps"]
    (only,) = summary["rounds"]
    assert list(only) == [*ROUND_KEYS, "close_s", "accuracy", "auc", "macro_f1", "loss", "results"]
    assert only["accuracy"] is None and [list(row) for row in only["results"]] == [ROW_KEYS] * 2
    tiny = summary["classes"]["tiny"]
    measured = {"parameters", "dense_parameters", "size_bytes", "dense_size_bytes", "latency_s", "dense_latency_s"}
    measured |= {"latency_ratio", "test"}
    known = {"target_sparsity", "realised_sparsity", "heads_kept", "heads_dense", "channels_kept", "channels_dense"}
    assert tiny.keys() == measured | known | {"peak_training_memory_mb"}
    assert all(tiny[key] is None for key in measured) and all(tiny[key] is not None for key in known)
    assert tiny["peak_training_memory_mb"] == 1.0
    assert summary["totals"]["steps"] == total_steps(ledger.outcomes()) == 10


def test_the_summary_tells_what_was_measured(tmp_path: Path, ledger: Ledger, log: RunLog) -> None:
    commit(ledger)
    first = GlobalAdapter(round=1, rank_blocks=(REF,), head=REF)
    log.evaluated(EvaluateTask(adapter=first, rows=5, lora_scale=2.0), EvaluatorResult(id=1, outcome=METRICS))
    summary = summary_of(ledger, tmp_path)
    assert summary["rounds"][0]["accuracy"] == 0.75 and summary["rounds"][0]["auc"] is None
    assert summary["rounds"][0]["close_s"] is None, "not known: a crash came before it was noted"
    ledger.note(close_key(1), 0.5)
    assert summary_of(ledger, tmp_path)["rounds"][0]["close_s"] == 0.5
    assert summary["run"]["bandit"] == "fixed", "what fedavg-lora really uses"


def test_a_log_that_is_not_eager_shows_its_events_at_a_turn_and_at_its_end(tmp_path: Path, ledger: Ledger) -> None:
    log = RunLog(RunFolder(tmp_path), ledger, wall=lambda: 1.0, eager=False)
    log.event("accepted", device="a", round=1)
    assert events(tmp_path) == []
    log.turn([{"event": "choice", "device": "a"}], [])
    assert [each["event"] for each in events(tmp_path)] == ["accepted", "choice"]
    log.event("committed", round=1)
    log.close()
    assert [each["event"] for each in events(tmp_path)] == ["accepted", "choice", "committed"]
