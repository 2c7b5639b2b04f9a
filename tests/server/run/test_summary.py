"""The summary has stable keys, and figures only for what was measured."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.core.contract.protocols import AggregateReport, Json
from fedcore.core.data.figures import Metrics
from fedcore.core.data.floors import Floor, Floors
from fedcore.core.model.geometry import geometry_from_config
from fedcore.protos.values import (
    BlobRef,
    EvaluateTask,
    EvaluatorResult,
    GlobalAdapter,
)
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.records import outcome_record, round_record
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import RunLog, close_key
from fedcore.server.run.summary import build_summary, total_steps
from fedcore.server.run.turn_record import TurnRecord
from fedcore.strategies.table import make_strategy
from tests.server.run.test_records import ROUND_KEYS, ROW_KEYS, closed, outcome
from tests.tiny_run import MODEL, tiny_config

QUALITY_KEYS = ["accuracy", "auc", "macro_f1", "loss", "evaluated_class", "evaluated_sparsity", "evaluated_rows"]
METRICS = Metrics(figures={"accuracy": 0.75, "auc": None, "macro_f1": 0.7, "loss": 0.5}, rows=8)
REF = BlobRef(id="sha256:" + "a" * 64, size=1)


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
        list(summary) == ["schema", "run", "global", "floors", "warnings", "classes", "networks", "totals", "rounds"]
        and summary["schema"] == 1
    )
    assert list(summary["run"]) == ["name", "status", "seed", "strategy", "aggregator", "bandit", "task", "labels"]
    assert summary["global"] == {"untrained": None, "final": None, "reference": None}
    assert summary["floors"] == {"majority": None, "untrained": None, "tfidf": None} and summary["warnings"] == []
    assert list(summary["totals"]) == ["rounds", "void_rounds", "duration_s", "bytes_up", "bytes_down", "steps"]
    (only,) = summary["rounds"]
    assert list(only) == [*ROUND_KEYS, "close_s", *QUALITY_KEYS, "results"]
    assert only["accuracy"] is None and [list(row) for row in only["results"]] == [ROW_KEYS] * 2
    tiny = summary["classes"]["tiny"]
    measured = {"parameters", "dense_parameters", "size_bytes", "dense_size_bytes", "latency_s", "dense_latency_s"}
    measured |= {"latency_ratio", "label_offsets", "test"}
    known = {"target_sparsity", "realised_sparsity", "heads_kept", "heads_dense", "channels_kept", "channels_dense"}
    known |= {"layers_kept", "layers_dense"}
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


def test_a_round_and_a_class_say_of_which_model_their_figures_are(tmp_path: Path, ledger: Ledger, log: RunLog) -> None:
    commit(ledger)
    adapter = GlobalAdapter(round=1, rank_blocks=(REF,), head=REF)
    dense = EvaluateTask(adapter=adapter, rows=5, lora_scale=2.0)
    log.evaluated(dense, EvaluatorResult(id=1, outcome=METRICS))
    (only,) = summary_of(ledger, tmp_path)["rounds"]
    assert (only["evaluated_class"], only["evaluated_sparsity"], only["evaluated_rows"]) == (None, 0.0, 8)
    pruned = replace(dense, keep_set=REF, device_class="tiny", sparsity=0.35)
    log.evaluated(pruned, EvaluatorResult(id=1, outcome=METRICS, keep_set=REF.id))
    log.evaluated(replace(pruned, rows=0), EvaluatorResult(id=1, outcome=METRICS, keep_set=REF.id))
    log.evaluated(replace(dense, rows=0), EvaluatorResult(id=1, outcome=METRICS))
    summary = summary_of(ledger, tmp_path)
    (only,) = summary["rounds"]
    assert (only["evaluated_class"], only["evaluated_sparsity"]) == ("tiny", 0.35)
    assert summary["classes"]["tiny"]["test"] == summary["global"]["final"], "measured without an export"
    assert summary["global"]["final"] == METRICS.flat() | {"answers": []}


def test_a_summary_warns_where_nothing_was_learned(tmp_path: Path, ledger: Ledger, log: RunLog) -> None:
    commit(ledger)
    adapter = GlobalAdapter(round=1, rank_blocks=(REF,), head=REF)
    floors = Floors(majority_label="a", majority=Floor(figures={"accuracy": 0.75, "macro_f1": 0.4}, rows=8))
    kind = EvaluateTask(adapter=adapter, rows=0, lora_scale=2.0, floors=True)
    log.evaluated(kind, EvaluatorResult(id=1, outcome=replace(METRICS, answers=(8, 0)), floors=floors))
    summary = summary_of(ledger, tmp_path)
    assert summary["floors"]["majority"] == {"label": "a", "accuracy": 0.75, "macro_f1": 0.4, "rows": 8}
    (warning,) = summary["warnings"]
    assert "the global adapter 0.750 is no better than always answering 'a' (0.750)" in warning
    assert "answers 'a' for 100% of the rows" in warning
