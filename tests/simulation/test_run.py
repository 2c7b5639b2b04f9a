"""Simulations that train a tiny model: batched or one by one, in one process or several, interrupted and resumed."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedcore.core.config.toml import parse_config
from fedcore.core.contract.protocols import Json
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup
from tests.simulation.virtual import Stopping
from tests.tiny_models import tiny_model
from tests.whole.stage import texts

CONFIG = """
[run]
name = "trained"
rounds = 3
[model]
path = "{model}"
max_length = 16
[data]
train = "{rows}"
[strategy]
ranks = [2, 4]
warmup_rounds = 1
recovery_rounds = 1
bandit = "fixed"
[training]
local_steps = 2
batch_size = 4
[evaluation]
rows_per_round = 0
[simulation]
exports = false
workers = 1
[[fleet.class]]
name = "big"
count = 3
target_sparsity = 0.25
[[fleet.class]]
name = "small"
count = 3
target_sparsity = 0.5
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("simulated")
    with (root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 120)])
    return CONFIG.format(model=tiny_model(root / "bert", "bert"), rows=root / "rows.csv")


def run(text: str, root: Path, *overrides: str, stop_after: int = 0) -> Json:
    setup = read_setup(parse_config(text, overrides))
    root.mkdir(exist_ok=True)
    folder = RunFolder(root)
    resumed = folder.ledger.exists()
    opened = Run.resume(folder, setup.model) if resumed else Run.create(folder, setup.config, setup.model)
    return simulate(setup, opened, [Stopping(stop_after)])


def adapter(root: Path) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    files = sorted((root / "global").glob("*.safetensors"))
    return {name: value for file in files for name, value in load_file(file).items()}


@pytest.mark.parametrize("importance", ["taylor", "lora-taylor", "l0"])
def test_batched_training_equals_one_device_after_the_other(text: str, tmp_path: Path, importance: str) -> None:
    settings = ("training.codec=identity", f"training.importance={importance}", "training.keep_optimizer=true")
    figures = [
        run(text, tmp_path / mode, f"simulation.training={mode}", *settings) for mode in ("batched", "one-by-one")
    ]
    one, other = adapter(tmp_path / "batched"), adapter(tmp_path / "one-by-one")
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], atol=1e-5)
    for first, second in zip(*(summary["rounds"] for summary in figures), strict=True):
        for row, twin in zip(first["results"], second["results"], strict=True):
            assert row["loss_after"] == pytest.approx(twin["loss_after"], abs=1e-5)
            assert row["time_s"] == twin["time_s"]


def test_devices_with_orders_of_their_own_train_their_own_keep_sets(text: str, tmp_path: Path) -> None:
    settings = ("training.codec=identity", "strategy.order=device", "run.rounds=2", "strategy.recovery_rounds=0")
    run(text, tmp_path / "batched", *settings)
    run(text, tmp_path / "alone", "simulation.training=one-by-one", *settings)
    one, other = adapter(tmp_path / "batched"), adapter(tmp_path / "alone")
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        ("training.codec=bf16+zstd",),
        ("training.codec=ef+topk:0.3+int8", "training.keep_optimizer=true", "training.importance=lora-taylor"),
        ("strategy.aggregator=delta-stack",),
        ("strategy.name=flora",),
        ("strategy.name=fedex-lora", "training.codec=bf16+zstd"),
    ],
)
def test_a_run_that_was_interrupted_resumes_to_the_same_bits(
    text: str, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    settings = ("simulation.training=one-by-one", *settings)
    run(text, tmp_path / "whole", *settings)
    with pytest.raises(KeyboardInterrupt):
        run(text, tmp_path / "broken", *settings, stop_after=2)
    run(text, tmp_path / "broken", *settings)
    one, other = adapter(tmp_path / "whole"), adapter(tmp_path / "broken")
    assert all((value == other[name]).all() for name, value in one.items())


def test_downloads_of_kept_rows_take_fewer_bytes_and_change_nothing_else(text: str, tmp_path: Path) -> None:
    """Classes with two targets give several rings."""
    settings = ("training.downlink=bf16", "strategy.ranks=[32]", "strategy.reward_weights=[1, 0, 0, 0]")
    settings = (*settings, "strategy.pace=off")
    whole = run(text, tmp_path / "whole", *settings, "training.handout=whole")
    kept = run(text, tmp_path / "kept", *settings)
    one, other = adapter(tmp_path / "whole"), adapter(tmp_path / "kept")
    assert all((value == other[name]).all() for name, value in one.items())
    for first, second in zip(whole["rounds"], kept["rounds"], strict=True):
        for row, twin in zip(first["results"], second["results"], strict=True):
            assert (row["sparsity"], row["bytes_up"]) == (twin["sparsity"], twin["bytes_up"])
            assert (twin["bytes_down"] < row["bytes_down"]) == (row["sparsity"] > 0)


def test_batched_devices_learn_from_their_dense_model_as_one_by_one(text: str, tmp_path: Path) -> None:
    taught = ("training.codec=identity", "training.distill=0.7", "training.distill_temperature=2.0")
    modes = {
        mode: run(text, tmp_path / mode, f"simulation.training={mode}", *taught) for mode in ("batched", "one-by-one")
    }
    one, other = adapter(tmp_path / "batched"), adapter(tmp_path / "one-by-one")
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], atol=2e-5)  # AdamW's first steps have the rate's size: 4e-3
    plain = run(text, tmp_path / "plain", "simulation.training=one-by-one", "training.codec=identity")
    alone = adapter(tmp_path / "plain")
    assert any(np.abs(value - alone[name]).max() > 1e-4 for name, value in one.items())
    longer = [
        [row["time_s"] > twin["time_s"] for row, twin in zip(mine["results"], theirs["results"], strict=True)]
        for mine, theirs in zip(modes["batched"]["rounds"], plain["rounds"], strict=True)
    ]
    assert not any(longer[0]) and all(longer[-1]), "a device that is cut takes the teacher's time as well"


def test_devices_that_keep_nothing_have_no_folders(text: str, tmp_path: Path) -> None:
    run(text, tmp_path / "run")
    assert not (tmp_path / "run" / "devices").exists()


def test_more_devices_than_rows_share_them(text: str, tmp_path: Path) -> None:
    summary = run(
        text,
        tmp_path / "run",
        "simulation.rows_per_device=4",
        "fleet.class.big.count=200",
        "strategy.cohort=5",
        "run.rounds=2",
    )
    assert summary["totals"]["rounds"] == 2
    assert all(len(record["results"]) == 5 for record in summary["rounds"])


@pytest.mark.slow
def test_processes_give_the_bits_of_one(text: str, tmp_path: Path) -> None:
    settings = ("simulation.training=one-by-one", "simulation.chunk_devices=1", "run.rounds=2")
    run(text, tmp_path / "one", *settings)
    run(text, tmp_path / "many", *settings, "simulation.workers=2")
    one, other = adapter(tmp_path / "one"), adapter(tmp_path / "many")
    assert all((value == other[name]).all() for name, value in one.items())


@pytest.mark.parametrize("name", ["flora", "fedex-lora"])
def test_an_unpruned_export_computes_what_the_shifted_global_model_does(text: str, tmp_path: Path, name: str) -> None:
    settings = (f"strategy.name={name}", "simulation.exports=true", "training.learning_rate=0.05", "run.rounds=2")
    summary = run(text, tmp_path / name, *settings)
    export, whole = summary["classes"]["big"]["test"], summary["global"]["final"]
    assert export["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    shift = load_file(tmp_path / name / "global" / "base_shift.safetensors")
    assert max(float(np.abs(value).max()) for value in shift.values()) > 1e-4


def test_after_the_first_cut_classes_are_measured_by_turns(text: str, tmp_path: Path) -> None:
    settings = ("evaluation.rows_per_round=8", "run.rounds=5", "strategy.recovery_rounds=0")
    summary = run(text, tmp_path / "whole", *settings)
    measured = [(round_["evaluated_class"], round_["evaluated_rows"]) for round_ in summary["rounds"]]
    first = next(number for number, (name, _) in enumerate(measured) if name)
    assert first >= 1 and all(name is None for name, _ in measured[:first]), "dense, until a device is cut"
    turns = [name for name, _ in measured[first:]]
    assert set(turns) == {"big", "small"} and all(one != other for one, other in itertools.pairwise(turns))
    for round_ in summary["rounds"][first:]:
        realised = summary["classes"][round_["evaluated_class"]]["realised_sparsity"]
        assert round_["evaluated_sparsity"] == realised > 0, "what the run would deliver"
    assert all(figures["test"]["rows"] == summary["global"]["final"]["rows"] for figures in summary["classes"].values())
    floors = summary["floors"]
    assert floors["majority"]["label"] in ("neg", "pos") and floors["tfidf"]["trained_on"] >= 20
    assert floors["untrained"] == summary["global"]["untrained"]
    assert "python" in (tmp_path / "whole" / "global" / "README.md").read_text()

    with pytest.raises(KeyboardInterrupt):
        run(text, tmp_path / "resumed", *settings, stop_after=first + 1)
    resumed = run(text, tmp_path / "resumed", *settings)
    lost = first  # the process was stopped before it measured this round
    names = [round_["evaluated_class"] for round_ in resumed["rounds"]]
    assert names == [None if place == lost else name for place, (name, _) in enumerate(measured)]
    assert resumed["rounds"][-1]["loss"] == pytest.approx(summary["rounds"][-1]["loss"], abs=1e-5)


def test_a_reference_is_trained_beside_the_fleet(text: str, tmp_path: Path) -> None:
    setup = read_setup(parse_config(text, ("run.rounds=1",)))
    folder = RunFolder.create("beside", base=tmp_path)
    summary = simulate(setup, Run.create(folder, setup.config, setup.model), reference=True)
    assert summary["global"]["reference"]["rows"] == summary["global"]["final"]["rows"]
    assert summary["global"]["reference"]["loss"] != summary["global"]["final"]["loss"]
