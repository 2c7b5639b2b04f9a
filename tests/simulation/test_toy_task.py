"""A task that is not classification, defined here alone: whatever runs asks it, and nothing else knows which it is."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from fedcore.core.config.toml import parse_config
from fedcore.core.contract.protocols import Json
from fedcore.core.data.figures import Figure, Metrics
from fedcore.core.errors import ConfigError
from fedcore.core.tasks.table import TASKS
from fedcore.core.tasks.task import Targets, Task
from fedcore.local_fleet.progress import RunProgress, advance
from fedcore.local_fleet.report import print_report
from fedcore.local_fleet.view import quality
from fedcore.nn.losses.loss import Loss
from fedcore.nn.losses.table import LOSSES
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup
from tests.tiny_models import tiny_model
from tests.whole.stage import texts

# --- the task, and its loss


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs[..., 0] - targets).square()


def measure(outputs: NDArray[np.float32], targets: Targets) -> Metrics:
    loss = float(np.mean(np.square(outputs[:, 0] - targets)))
    return Metrics(figures={"rmse": loss**0.5, "loss": loss}, rows=len(targets))


SQUARED = Loss(
    mean=lambda outputs, targets: squared(outputs, targets).mean(),
    each=squared,
    divergence=lambda outputs, teacher, how: squared(outputs, teacher[..., 0]),
)
SCORE = Task(
    name="score",
    figures=(
        Figure(name="rmse", title="RMSE", unit="points", higher_is_better=False, shown="always"),
        Figure(name="loss", title="loss", higher_is_better=False, shown="tables"),
    ),
    labelled=False,
    targets=lambda column, labels: np.array(column, dtype=np.float32),
    target_type=np.float32,
    outputs=lambda labels: 1,
    model_class="AutoModelForSequenceClassification",
    config_keys=lambda labels: {"id2label": {0: "score"}, "label2id": {"score": 0}, "problem_type": "regression"},
    measure=measure,
    loss="squared",
)

# --- a run of it

CONFIG = """
[run]
name = "scored"
rounds = 2
[task]
kind = "score"
[model]
path = "{model}"
max_length = 16
[data]
train = "{rows}"
label = "points"
partition = "iid"
[strategy]
ranks = [2]
warmup_rounds = 1
recovery_rounds = 0
bandit = "fixed"
target_sparsity = 0.5
[training]
local_steps = 6
batch_size = 4
learning_rate = 0.01
codec = "identity"
[evaluation]
rows_per_round = 8
[simulation]
workers = 1
[[fleet.class]]
name = "nx"
count = 3
"""


@pytest.fixture(autouse=True)
def score_task() -> Iterator[None]:
    TASKS.add("score", SCORE)
    LOSSES.add("squared", SQUARED)
    yield
    TASKS.remove("score")
    LOSSES.remove("squared")


def written(root: Path, family: str) -> str:
    with (root / "rows.csv").open("w", newline="") as file:
        rows = [(text, {"neg": "-1.5", "pos": "2.25"}[label]) for text, label in texts(("neg", "pos"), 120)]
        csv.writer(file).writerows([("text", "points"), *rows])
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
def test_a_run_of_another_task_trains_measures_prunes_and_exports(tmp_path: Path, family: str) -> None:
    text, said = written(tmp_path, family), list[str]()
    summary = run(text, tmp_path / "run", said=said)
    assert said == [], "numbers in the label column are targets here, and no doubt"
    assert summary["run"]["task"] == "score" and summary["run"]["labels"] == []
    untrained, final, delivered = (
        *(summary["global"][name] for name in ("untrained", "final")),
        summary["classes"]["nx"],
    )
    assert list(final) == ["rmse", "loss", "rows", "answers"] and final["loss"] == pytest.approx(final["rmse"] ** 2)
    assert final["rmse"] < untrained["rmse"] and delivered["test"]["rmse"] < untrained["rmse"]
    assert delivered["realised_sparsity"] > 0.3 and delivered["parameters"] < delivered["dense_parameters"]
    assert all(round_["rmse"] is not None and "accuracy" not in round_ for round_ in summary["rounds"])
    assert summary["floors"]["majority"] is None and summary["floors"]["untrained"] == untrained
    shown = io.StringIO()
    print_report(Console(file=shown, width=120), summary)
    assert f"RMSE {final['rmse']:.3f}" in shown.getvalue() and "accuracy" not in shown.getvalue()
    progress = RunProgress(total_rounds=2)
    for event in read_events(tmp_path / "run" / "events.jsonl"):
        progress = advance(progress, event)
    assert "RMSE " in quality(progress)
    assert "RMSE on held-back rows" in (tmp_path / "run" / "global" / "README.md").read_text(encoding="utf-8")
    exported(tmp_path / "run" / "exports" / "nx")


def exported(folder: Path) -> None:
    """Load an export with transformers and compare its answers with the probe's."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    assert model.config.num_labels == 1 and model.config.problem_type == "regression"
    probe = load_file(folder / "probe.safetensors")
    logits = probe.pop("logits")
    with torch.no_grad():
        output = model(**probe, labels=torch.zeros(len(logits)))
    torch.testing.assert_close(output.logits, logits, rtol=1e-4, atol=1e-5)
    assert output.loss.item() == pytest.approx(logits.square().mean().item(), rel=1e-3)


def test_batched_training_of_another_task_equals_one_device_after_the_other(tmp_path: Path) -> None:
    text = written(tmp_path, "bert")
    for mode in ("batched", "one-by-one"):
        run(text, tmp_path / mode, f"simulation.training={mode}", "simulation.exports=false")
    alone = adapter(tmp_path / "one-by-one")
    for name, value in adapter(tmp_path / "batched").items():
        torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.partition=dirichlet", "deals rows by label, and rows of task score have none"),
        ('data.labels=["a", "b"]', "rows of task score have no labels"),
    ],
)
def test_keys_that_ask_for_labels_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_setup(parse_config(written(tmp_path, "bert"), [override]))


def test_nothing_trained_needs_no_label_either(tmp_path: Path) -> None:
    summary = run(written(tmp_path, "bert"), tmp_path / "run", "simulation.training=none")
    assert summary["run"]["labels"] == [] and summary["totals"]["rounds"] == 2
