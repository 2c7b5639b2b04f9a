"""Models that write, and models of a number, in a ServerApp: trained by nodes, measured with samples, exported."""

import json
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from typer.testing import CliRunner

from fedcore.cli.main import app as command
from fedcore.client.flower.app import client_app
from fedcore.client.flower.measure import held_back
from fedcore.core.contract.protocols import Json
from fedcore.server.flower.app import server_app
from fedcore.server.run.journal import read_events
from tests.server.flower.conftest import DirectGrid
from tests.simulation.test_generation_run import dialogues, writes
from tests.tiny_models import tiny_model

NODES = 2
SHARED: dict[str, Any] = {
    "device-classes": "nx, agx",
    "run.rounds": 2,
    "model.max_length": 16,
    "data.test_fraction": 0.2,
    "data.partition": "by:lang",
    "strategy.ranks": "[2]",
    "strategy.warmup_rounds": 1,
    "strategy.recovery_rounds": 0,
    "strategy.bandit": "fixed",
    "strategy.target_sparsity": 0.3,
    "training.local_steps": 8,
    "training.batch_size": 4,
    "training.learning_rate": 0.01,
    "coordinator.min_devices": NODES,
    "evaluation.rows_per_round": 8,
}


def run_app(root: Path, shared: dict[str, Any]) -> Json:
    """Run server app and client app of one configuration, and return the run's summary."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    shared = SHARED | shared | {"run-dir": str(root / "run")}
    grid = DirectGrid(client_app(), NODES, shared)
    for context in grid.contexts.values():
        context.node_config = {**context.node_config, "num-partitions": NODES, "device": "cpu"}
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=shared)
    server_app(measuring=held_back)(grid, context)
    summary: Json = json.loads((root / "run" / "summary.json").read_text())
    return summary


def rows_of(root: Path, rows: list[dict[str, Any]]) -> str:
    lines = [json.dumps(row | {"lang": ("en", "de")[place % 2]}) for place, row in enumerate(rows)]
    (root / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return str(root / "rows.jsonl")


def texts_of(root: Path) -> str:
    (root / "texts.jsonl").write_text("".join(json.dumps({"text": asked}) + "\n" for asked, _ in dialogues(8)))
    return str(root / "texts.jsonl")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_server_app_trains_measures_and_delivers_a_model_that_writes(tmp_path: Path, precision: str) -> None:
    shared = {
        "task.kind": "generation",
        "task.generated_rows": 3,
        "task.answer_tokens": 6,
        "model.path": str(tiny_model(tmp_path / "llama", "llama", writes=True)),
        "data.train": rows_of(tmp_path, [{"prompt": asked, "response": told} for asked, told in dialogues()]),
        "training.precision": precision,
        "data.replay": texts_of(tmp_path),
        "data.replay_share": 0.25,
    }
    summary = run_app(tmp_path, shared)
    assert [told["accepted"] for told in summary["rounds"]] == [NODES] * 2
    final = summary["global"]["final"]
    assert final["perplexity"] < 60 and len(final["samples"]) == 3, "untrained: about 120"
    for name in ("nx", "agx"):
        measured = summary["classes"][name]["test"]
        assert measured["perplexity"] > 1 and measured["exact_match"] is not None and len(measured["samples"]) == 3
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    assert any(event.get("samples") for event in events if event["event"] == "evaluated")
    joined = [event for event in events if event["event"] == "joined"]
    assert {event["precision"] or "float32" for event in joined} == {precision}
    out = tmp_path / "nx"
    done = CliRunner().invoke(command, ["export", str(tmp_path / "run"), "--class", "nx", "--out", str(out)])
    assert done.exit_code == 0, done.output
    writes(out)


def test_a_server_app_trains_a_regression(tmp_path: Path) -> None:
    rows = [{"text": asked, "label": len(told)} for asked, told in dialogues()]
    shared = {
        "task.kind": "regression",
        "task.low": 0.0,
        "task.high": 20.0,
        "model.path": str(tiny_model(tmp_path / "bert", "bert")),
        "data.train": rows_of(tmp_path, rows),
    }
    summary = run_app(tmp_path, shared)
    assert [told["accepted"] for told in summary["rounds"]] == [NODES] * 2
    for measured in (summary["global"]["final"], *(told["test"] for told in summary["classes"].values())):
        assert -1 <= measured["spearman"] <= 1 and measured["rmse"] > 0
