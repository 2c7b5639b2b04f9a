"""A grouped-query Llama on a pair task with three labels: Parquet in, delta-stack, LoRA's own gradients as importance.

One class of the fleet cannot hold the model and is refused; the run goes on without it. One holds it in 4 bits.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from fedcore.cli.main import app
from fedcore.core.contract.protocols import Json
from tests.whole.stage import Stage, events, summary_of, texts
from tests.whole.stranger import ask_stranger

pytestmark = pytest.mark.slow

CONFIG = """
[run]
name = "pairs"
rounds = 2
[model]
path = "{model}"
max_length = 24
[data]
train = "rows.parquet"
text = ["first", "second"]
label = "kind"
partition = "iid"
[strategy]
target_sparsity = 0.6
ranks = [2]
aggregator = "delta-stack"
warmup_rounds = 1
recovery_rounds = 0
[training]
local_steps = 3
batch_size = 8
importance = "lora-taylor"
codec = "fp16"
[coordinator]
min_devices = 3
[[fleet.class]]
name = "watch"
memory_mb = 0.1
[[fleet.class]]
name = "phone"
count = 2
slowdown = 5
[[fleet.class]]
name = "packed"
quantize = "nf4"
"""


@dataclass
class Finished:
    """The run, what the terminal said, and its summary."""

    stage: Stage
    run: Path
    said: str
    summary: Json


@pytest.fixture(scope="module")
def finished(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    stage = Stage(tmp_path_factory.mktemp("pairs"))
    rows = list(texts(("neg", "pos", "so"), 120))
    columns = {"first": [text for text, _ in rows], "second": [text[::-1] for text, _ in rows]}
    labels = {"neg": 0, "pos": 1, "so": 2}
    table = pyarrow.table(columns | {"kind": [labels[label] for _, label in rows]})
    pyarrow.parquet.write_table(table, stage.root / "rows.parquet")
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=llama))
    (stage.root / "runs" / "pairs").mkdir(parents=True)  # the name is taken
    done = stage.run("fleet", "cfg.toml", "--plain", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    yield Finished(stage, stage.root / "runs" / "pairs-2", done.stderr, json.loads(done.stdout))
    stage.close()


def test_a_second_run_of_a_name_gets_a_new_folder(finished: Finished) -> None:
    assert finished.said.startswith("run folder: runs/pairs-2\n")
    assert list((finished.run.parent / "pairs").iterdir()) == []


def test_json_on_stdout_is_the_summary(finished: Finished) -> None:
    assert finished.summary == summary_of(finished.run)


def test_three_labels_are_judged_by_macro_f1(finished: Finished) -> None:
    assert (finished.run / "config.toml").read_text().count('labels = ["0", "1", "2"]') == 1
    final = finished.summary["global"]["final"]
    assert final["auc"] is None and 0 <= final["macro_f1"] <= 1


def test_the_class_that_cannot_hold_the_model_is_refused_with_figures_and_the_run_goes_on(finished: Finished) -> None:
    refusal = next(line for line in finished.said.splitlines() if line.startswith("refused: device watch-0 "))
    assert "training needs" in refusal and "MiB at sparsity 0.6 and rank 2, the device allows" in refusal
    assert "raise memory_mb" in refusal
    assert finished.said.count("training needs") == 1
    assert [each["accepted"] for each in finished.summary["rounds"]] == [3, 3]
    assert {each["device"] for each in events(finished.run, "choice")} == {"packed-0", "phone-0", "phone-1"}


def test_the_summary_names_the_aggregator_and_legal_cuts(finished: Finished) -> None:
    assert finished.summary["run"]["aggregator"] == "delta-stack"
    told = finished.summary["classes"]["phone"]
    assert told["heads_kept"] in (3, 6) and told["heads_dense"] == 9  # three query heads to a key-value head
    assert told["realised_sparsity"] == pytest.approx(0.6, abs=0.05)


@pytest.fixture(scope="module")
def told_by_stranger(finished: Finished, llama: Path) -> Json:
    dense = finished.stage.root / "dense"
    done = CliRunner().invoke(app, ["export", str(finished.run), "--sparsity", "0", "--out", str(dense)])
    assert done.exit_code == 0, done.output
    folders = [finished.run / "exports" / "phone", finished.run / "exports" / "packed", dense]
    return ask_stranger(finished.stage, exports=folders, base=llama, adapter=finished.run / "global", trust=False)


def test_the_export_is_a_plain_llama(finished: Finished) -> None:
    folder = finished.run / "exports" / "phone"
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llama" and "auto_map" not in config
    assert not list(folder.glob("*.py"))


def test_it_loads_without_trust_and_gives_the_logits_of_the_run(finished: Finished, told_by_stranger: Json) -> None:
    told = told_by_stranger["phone"]
    assert told["class"] == "LlamaForSequenceClassification"
    assert told["error"] <= 1e-4
    assert told["labels"] == ["0", "1", "2"]
    assert told["parameters"] == finished.summary["classes"]["phone"]["parameters"]
    assert told["parameters"] < told_by_stranger["dense"]["parameters"]


def test_a_quantised_class_is_delivered_on_the_unquantised_base(finished: Finished, told_by_stranger: Json) -> None:
    assert told_by_stranger["packed"]["error"] <= 1e-4
    assert told_by_stranger["packed"]["parameters"] == told_by_stranger["phone"]["parameters"]
    assert (finished.run / "config.toml").read_text().count('quantize = "nf4"') == 1


def test_the_global_adapter_loads_with_peft(told_by_stranger: Json) -> None:
    assert told_by_stranger["adapter"]["changes"] > 1e-4
    assert told_by_stranger["adapter"]["off by"] < 1e-4
