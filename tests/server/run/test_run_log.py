"""The log of a run: events in order, results of the evaluator in the ledger."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.core.contract.protocols import Json
from fedcore.core.data.figures import Metrics
from fedcore.core.data.floors import Floor, Floors
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
from fedcore.server.run.records import outcome_record
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import FLOORS_KEY, REFERENCE_KEY, RunLog, class_key, evaluation_key, export_key
from tests.server.members.test_admission import JOIN
from tests.server.run.test_records import outcome

HALF = Metrics(figures={"accuracy": 0.5, "auc": 0.5, "macro_f1": 0.0, "loss": 1.0}, rows=8)
METRICS = Metrics(figures={"accuracy": 0.75, "auc": None, "macro_f1": 0.7, "loss": 0.5}, rows=8)
REF = BlobRef(id="sha256:" + "a" * 64, size=1)
ADAPTER = GlobalAdapter(round=2, rank_blocks=(REF,), head=REF)


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
    figures = {"accuracy": 0.75, "auc": None, "macro_f1": 0.7, "loss": 0.5, "rows": 8, "answers": []}
    assert ledger.get_meta(REFERENCE_KEY) == figures
    for key in (evaluation_key(2, full=False), evaluation_key(0, full=True)):
        assert ledger.get_meta(key) == {**figures, "class": None, "sparsity": 0.0}
    assert ledger.get_meta(export_key("agx"))["size_bytes"] == 70
    assert "files" not in ledger.get_meta(export_key("agx"))
    log.evaluated(
        evaluate,
        EvaluatorResult(id=2, outcome=HALF),
    )
    assert ledger.get_meta(evaluation_key(2, full=False))["accuracy"] == 0.5


PRUNED = EvaluateTask(adapter=ADAPTER, rows=5, lora_scale=2.0, keep_set=REF, device_class="nx", sparsity=0.35)


def test_figures_say_of_which_model_they_are(tmp_path: Path, log: RunLog, ledger: Ledger) -> None:
    log.evaluated(PRUNED, EvaluatorResult(id=1, outcome=METRICS, keep_set=REF.id))
    stored, (event,) = ledger.get_meta(evaluation_key(2, full=False)), events(tmp_path)
    assert (stored["class"], stored["sparsity"]) == (event["class"], event["sparsity"]) == ("nx", 0.35)
    assert event["task"] == "round 2"
    log.evaluated(replace(PRUNED, rows=0), EvaluatorResult(id=1, outcome=METRICS, keep_set=REF.id))
    assert ledger.get_meta(class_key("nx"))["accuracy"] == 0.75 and events(tmp_path)[-1]["task"] == "class nx"
    assert ledger.get_meta(evaluation_key(0, full=True)) is None, "the dense model's are another matter"


def test_an_evaluator_that_knows_no_keep_set_has_measured_the_dense_model(
    tmp_path: Path, log: RunLog, ledger: Ledger
) -> None:
    log.evaluated(PRUNED, EvaluatorResult(id=1, outcome=METRICS))
    assert (events(tmp_path)[-1]["class"], events(tmp_path)[-1]["sparsity"]) == (None, 0.0)
    log.evaluated(replace(PRUNED, rows=0), EvaluatorResult(id=1, outcome=METRICS))
    assert ledger.get_meta(class_key("nx")) is None and ledger.get_meta(evaluation_key(0, full=True)) is not None


def test_floors_are_kept_and_told(tmp_path: Path, log: RunLog, ledger: Ledger) -> None:
    floors = Floors(majority_label="neg", majority=Floor(figures={"accuracy": 0.5, "macro_f1": 0.25}, rows=8))
    kind = EvaluateTask(adapter=ADAPTER, rows=5, lora_scale=2.0, floors=True)
    log.evaluated(kind, EvaluatorResult(id=1, outcome=METRICS, floors=floors))
    event = events(tmp_path)[-1]
    assert event["event"] == "floors" and event["majority"] == {"accuracy": 0.5, "macro_f1": 0.25, "rows": 8}
    assert ledger.get_meta(FLOORS_KEY)["majority_label"] == "neg" and event["tfidf"] is None


def test_a_failed_task_is_said_and_leaves_earlier_figures(tmp_path: Path, log: RunLog, ledger: Ledger) -> None:
    kind = EvaluateTask(adapter=ADAPTER, rows=0, lora_scale=2.0)
    log.evaluated(kind, EvaluatorResult(id=1, outcome=None, error="no rows"))
    (event,) = events(tmp_path)
    assert (event["event"], event["task"], event["message"]) == ("task_failed", "final", "no rows")
    assert ledger.get_meta(evaluation_key(0, full=True)) is None


def test_a_log_that_is_not_eager_shows_its_events_at_a_turn_and_at_its_end(tmp_path: Path, ledger: Ledger) -> None:
    log = RunLog(RunFolder(tmp_path), ledger, wall=lambda: 1.0, eager=False)
    log.event("accepted", device="a", round=1)
    assert events(tmp_path) == []
    log.turn([{"event": "choice", "device": "a"}], [])
    assert [each["event"] for each in events(tmp_path)] == ["accepted", "choice"]
    log.event("committed", round=1)
    log.close()
    assert [each["event"] for each in events(tmp_path)] == ["accepted", "choice", "committed"]
