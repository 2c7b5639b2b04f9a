"""A ServerApp of one configuration: where its run lies, how it goes on, and what it measures after a round."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, Context, RecordDict

from fedcore.core.data.figures import Metrics
from fedcore.core.errors import ConfigError, RunError
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds.state import Phase
from fedcore.server.flower import app as module
from fedcore.server.flower.app import open_run
from fedcore.server.flower.records import arrays_of
from fedcore.server.run.run_log import evaluation_key
from tests.server.conftest import TinyModel
from tests.server.flower.test_round_driver import joining
from tests.tiny_run import tiny_config


def context(**settings: str) -> Context:
    run_config: Any = {key.replace("_", "-"): value for key, value in settings.items()}
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config)


def test_a_run_lies_where_the_app_says_or_under_its_name(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(tiny.folder)
    for settings, root in (({"run_dir": "here"}, Path("here")), ({}, Path("runs") / config.run.name)):
        driver = open_run(config, context(**settings))
        driver.close()
        assert driver.run.folder.root == root and driver.run.folder.ledger.is_file()


def test_a_run_goes_on_in_its_folder_and_no_other_does(tiny: TinyModel, tmp_path: Path) -> None:
    config = tiny_config(tiny.folder)
    first = open_run(config, context(run_dir=str(tmp_path / "run")))
    run_id = first.run.start.run_id
    first.close()
    again = open_run(config, context(resume=str(tmp_path / "run")))
    again.close()
    assert again.run.start.run_id == run_id
    with pytest.raises(RunError, match="is not a run folder"):
        open_run(config, context(resume=str(tmp_path)))


def test_a_run_that_cannot_begin_leaves_no_folder(tiny: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_run(tiny_config(tiny.folder, ["model.max_length=100000"]), context(run_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_what_is_measured_is_stored_and_returned(tiny: TinyModel, tmp_path: Path) -> None:
    asked: list[tuple[int, bool]] = []

    config = tiny_config(tiny.folder, ["evaluation.rows_per_round=3"])
    driver = open_run(config, context(run_dir=str(tmp_path / "run")))
    try:
        driver.join(joining(driver, "a"))
        assert driver.engine is not None
        arrays = arrays_of(driver.engine.model.tensors)

        def checked(description: object, welcome: object, tensors: Any, rows: int, keep_set: KeepSet | None) -> Metrics:
            assert set(tensors) == set(arrays)
            asked.append((rows, keep_set is not None))
            return Metrics(figures={"accuracy": 0.75, "auc": None, "macro_f1": 0.5, "loss": 0.25}, rows=rows)

        evaluate = module._evaluation(driver, checked)
        figures = evaluate(0, ArrayRecord(dict(arrays)))
        assert dict(figures) == {"accuracy": 0.75, "macro-f1": 0.5, "loss": 0.25} and asked == [(3, False)]
        stored = driver.run.ledger.get_meta(evaluation_key(0, full=False))
        assert stored["accuracy"] == 0.75 and stored["rows"] == 3

        driver.engine.has_pruned = True  # from here on a class's model is what a user would get
        name = driver.profiles["a"].device_class
        figures = evaluate(0, ArrayRecord(dict(arrays)))
        assert figures[f"{name}-accuracy"] == 0.75 and asked[1:] == [(3, True)]
        stored = driver.run.ledger.get_meta(evaluation_key(0, full=False))
        assert stored["class"] == name and stored["sparsity"] == driver.run.config.target_sparsity(name)
    finally:
        driver.close()


def test_at_the_end_every_model_is_measured_on_all_rows(tiny: TinyModel, tmp_path: Path) -> None:
    driver = open_run(tiny_config(tiny.folder), context(run_dir=str(tmp_path / "run")))
    try:
        driver.join(joining(driver, "a"))
        driver._shell.state = replace(driver.machine, phase=Phase.DONE)
        asked = driver.evaluations()
        assert [kind.device_class for kind in asked] == ["", driver.profiles["a"].device_class]
        assert {kind.rows for kind in asked} == {0} and asked[0].keep_set is None
    finally:
        driver.close()
