"""A regression from its rows to exports that answer in the unit of the targets, in a simulation."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fedcore.core.config.toml import parse_config
from fedcore.core.contract.protocols import Json
from fedcore.core.data.correlations import spearman
from fedcore.core.errors import ConfigError, DataError
from fedcore.core.tasks.table import task_of
from fedcore.local_fleet.export import ExportRequest, export_run
from fedcore.local_fleet.progress import RunProgress, advance
from fedcore.local_fleet.report import print_report
from fedcore.local_fleet.view import floors, quality
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup
from tests.tiny_models import tiny_model
from tests.whole.stage import texts

CONFIG = """
[run]
name = "priced"
rounds = 4
[task]
kind = "regression"
[model]
path = "{model}"
max_length = 16
[data]
train = "{rows}"
label = "price"
partition = "iid"
[strategy]
ranks = [2]
warmup_rounds = 1
recovery_rounds = 1
bandit = "fixed"
target_sparsity = 0.5
[training]
local_steps = 10
batch_size = 8
learning_rate = 0.02
codec = "identity"
[evaluation]
rows_per_round = 8
[simulation]
workers = 1
[[fleet.class]]
name = "nx"
count = 3
"""
PRICES = {"neg": 1000.0, "pos": 2500.0}


def written(root: Path, family: str, rows: int = 200) -> str:
    drawn = random.Random(0)
    with (root / "rows.csv").open("w", newline="") as file:
        priced = [(text, f"{PRICES[label] + drawn.uniform(-1, 1):.2f}") for text, label in texts(("neg", "pos"), rows)]
        csv.writer(file).writerows([("text", "price"), *priced])
    return CONFIG.format(model=tiny_model(root / family, family), rows=root / "rows.csv")


def run(text: str, root: Path, *overrides: str, said: list[str] | None = None) -> Json:
    setup = read_setup(parse_config(text, overrides), [].append if said is None else said.append)
    root.mkdir()
    return simulate(setup, Run.create(RunFolder(root), setup.config, setup.model))


def adapter(root: Path) -> dict[str, torch.Tensor]:
    return {
        name: value
        for file in sorted((root / "global").glob("*.safetensors"))
        for name, value in load_file(file).items()
    }


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_prices_are_learned_told_and_exported_in_their_own_unit(tmp_path: Path, family: str) -> None:
    text, said = written(tmp_path, family), list[str]()
    root = tmp_path / "run"
    summary = run(text, root, said=said)
    assert said == [] and summary["run"]["task"] == "regression" and summary["run"]["labels"] == []
    final, delivered = summary["global"]["final"], summary["classes"]["nx"]["test"]
    assert list(final) == ["spearman", "rmse", "pearson", "mae", "loss", "rows", "answers"]
    blind = summary["floors"]["majority"]
    assert 1000 < float(blind["label"]) < 2500 and blind["spearman"] == 0.0 and 650 < blind["rmse"] < 800
    assert delivered["pearson"] > 0.5 and delivered["rmse"] < 0.9 * blind["rmse"]
    told(root, summary)
    exported(root, delivered)


def told(root: Path, summary: Json) -> None:
    """Report, live view and the page of the adapter speak of the task's figures."""
    shown = io.StringIO()
    print_report(Console(file=shown, width=120), summary)
    delivered, label = summary["classes"]["nx"]["test"], summary["floors"]["majority"]["label"]
    assert f"Spearman {delivered['spearman']:.3f}, RMSE {delivered['rmse']:.3f}, Pearson" in shown.getvalue()
    assert f"floors, in Spearman: always answering '{label}' 0.000" in shown.getvalue()
    progress = RunProgress(total_rounds=4)
    for event in read_events(root / "events.jsonl"):
        progress = advance(progress, event)
    assert "Spearman " in quality(progress) and f"always '{label}' 0.000" in floors(progress)
    assert "Spearman on held-back rows" in (root / "global" / "README.md").read_text(encoding="utf-8")


def exported(root: Path, measured: Json) -> None:
    """Answer the held-back rows with an export of the run, and one made afterwards, by transformers alone."""
    folder, again = root / "exports" / "nx", root / "again"
    export_run(RunFolder(root), ExportRequest(device_class="nx", sparsity=None, out=again))
    assert load_file(folder / "model.safetensors").keys() == load_file(again / "model.safetensors").keys()
    for name, value in load_file(again / "model.safetensors").items():
        torch.testing.assert_close(value, load_file(folder / "model.safetensors")[name])
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    assert model.config.num_labels == 1 and model.config.problem_type == "regression"
    assert model.config.id2label == {0: "score"}
    probe = load_file(folder / "probe.safetensors")
    logits = probe.pop("logits")
    with torch.no_grad():
        torch.testing.assert_close(model(**probe).logits, logits, rtol=1e-4, atol=1e-2)
    config = RunFolder(root).root / "config.toml"
    setup = read_setup(parse_config(config.read_text(encoding="utf-8")))
    assert setup.test is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = [row for (row,) in setup.test.texts]
    batch = tokenizer(words, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        answers = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0].numpy()
    prices = np.array(setup.test.labels, dtype=float)
    assert float(np.sqrt(np.mean((answers - prices) ** 2))) == pytest.approx(measured["rmse"], rel=1e-3)
    assert spearman(answers, prices) == pytest.approx(measured["spearman"], abs=0.02)


def test_the_adapter_beside_the_exports_answers_in_the_targets_unit_too(tmp_path: Path) -> None:
    run(written(tmp_path, "bert"), tmp_path / "run", "strategy.target_sparsity=0.0", "simulation.exports=false")
    head = load_file(tmp_path / "run" / "global" / "head.safetensors")
    assert 500 < head["head.bias"].item() < 3000


def test_batched_training_equals_one_device_after_the_other(tmp_path: Path) -> None:
    text = written(tmp_path, "bert", rows=80)
    for mode in ("batched", "one-by-one"):
        run(text, tmp_path / mode, f"simulation.training={mode}", "simulation.exports=false", "run.rounds=2")
    alone = adapter(tmp_path / "one-by-one")
    for name, value in adapter(tmp_path / "batched").items():
        torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=2e-3 if "head" not in name else 1.0)


def test_a_rate_is_found_and_a_teacher_helps_here_too(tmp_path: Path) -> None:
    text = written(tmp_path, "bert", rows=80).replace("learning_rate = 0.02\n", "")
    summary = run(text, tmp_path / "run", "training.distill=0.5", "run.rounds=2", "simulation.exports=false")
    assert summary["totals"]["rounds"] == 2 and summary["global"]["final"]["rmse"] > 0


def test_worker_processes_train_the_task_as_well(tmp_path: Path) -> None:
    text = written(tmp_path, "bert", rows=80)
    for workers in (1, 2):
        overrides = (f"simulation.workers={workers}", "simulation.exports=false", "run.rounds=1")
        run(text, tmp_path / f"run-{workers}", *overrides, "simulation.training=one-by-one")
    two = adapter(tmp_path / "run-2")
    assert all(torch.equal(value, two[name]) for name, value in adapter(tmp_path / "run-1").items())


def test_the_range_is_found_once_and_written_down(tmp_path: Path) -> None:
    text = written(tmp_path, "bert")
    config = read_setup(parse_config(text)).config
    assert config.task.low is not None and config.task.high is not None
    assert 100 < config.task.low < 500 and 3000 < config.task.high < 3500
    fixed = read_setup(parse_config(text, ["task.low=0", "task.high=4000"])).config
    assert task_of(fixed).spec == "regression:0.0:4000.0"


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (("data.partition=dirichlet",), ConfigError, "deals rows by label, and rows of task regression have none"),
        (('data.labels=["a", "b"]',), ConfigError, "rows of task regression have no labels"),
        (("task.low=1",), ConfigError, "expected both, or neither"),
        (("task.low=2", "task.high=1"), ConfigError, "task.low must be below task.high, got 2 and 1"),
        (("task.kind=classification", "task.low=1", "task.high=2"), ConfigError, "task classification have no range"),
    ],
)
def test_keys_that_do_not_fit_are_refused(
    tmp_path: Path, overrides: tuple[str, ...], error: type[Exception], message: str
) -> None:
    text = written(tmp_path, "bert")
    with pytest.raises(error, match=message):
        read_setup(parse_config(text, overrides))


def test_rows_without_a_number_are_named_by_their_lines(tmp_path: Path) -> None:
    text, file = written(tmp_path, "bert"), tmp_path / "rows.csv"
    lines = file.read_text().splitlines()
    lines[3], lines[7], lines[8] = "the plot,good", "a film was,nan", "an actor,good"
    file.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        read_setup(parse_config(text, ["data.test_fraction=0.0", f"data.test={file}"]))
    assert "2 rows (lines 4, 9): the target 'good' is no number; write a number such as 3.5" in str(caught.value)
    assert "line 8: the target 'nan' is no finite number" in str(caught.value)


def test_rows_of_one_value_teach_nothing(tmp_path: Path) -> None:
    text, file = written(tmp_path, "bert"), tmp_path / "rows.csv"
    file.write_text("\n".join(["text,price", *(f"film {row},7" for row in range(20))]))
    with pytest.raises(DataError, match="every row to train on has the target 7; there is nothing to learn"):
        read_setup(parse_config(text))
