"""The app of a run from its configuration to its end: folders, the measurement after a round, an app that fails."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedcore.core.data.metrics import Metrics
from fedcore.core.errors import RunError
from fedcore.core.model.adapter import Tensors
from fedcore.protos.values import RunDescription, Welcome
from fedcore.server.flower import replies
from fedcore.server.flower.app import Measure, open_run, server_app
from fedcore.server.run.journal import read_events
from fedcore.server.run.run_folder import RunFolder
from tests.server.conftest import TinyModel
from tests.server.flower.fake_node import FakeNodes, right
from tests.tiny_run import spec_of, tiny_config


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "PAUSE_S", 0.01)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def context_of(settings: dict[str, str | int | float | bool]) -> Context:
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=settings)


def nodes(tiny: TinyModel) -> FakeNodes:
    return FakeNodes(tiny.mark, tiny.geometry, {"left": right, "right": right})


def measuring(measure: Measure) -> Callable[[Context], Measure]:
    return lambda context: measure


def test_the_adapter_is_measured_after_every_round_and_after_the_last_on_all_rows(
    tiny: TinyModel, tmp_path: Path
) -> None:
    seen: list[tuple[str, tuple[str, ...], int]] = []

    def measure(description: RunDescription, welcome: Welcome, adapter: Tensors, rows: int) -> Metrics:
        assert {name: value.shape for name, value in adapter.items()} == spec_of(tiny.geometry, 1).shapes()
        seen.append((description.head, welcome.labels, rows))
        return Metrics(accuracy=0.5, auc=None, macro_f1=0.25, loss=1.5, rows=rows or 20)

    config = tiny_config(tiny.folder, ["evaluation.rows_per_round=7"])
    server_app(config, measuring(measure))(nodes(tiny), context_of({"run-dir": str(tmp_path / "run")}))
    assert [rows for _, _, rows in seen] == [7, 0] and {labels for _, labels, _ in seen} == {("a", "b")}
    folder = RunFolder(tmp_path / "run")
    measured = [each for each in read_events(folder.events) if each["event"] == "evaluated"]
    assert [(each["accuracy"], each["macro_f1"], each["loss"], each["rows"]) for each in measured] == [
        (0.5, 0.25, 1.5, 7),
        (0.5, 0.25, 1.5, 20),
    ]
    assert folder.summary.is_file()


def test_an_app_that_fails_unlocks_its_folder_and_is_resumed_there(tiny: TinyModel, tmp_path: Path) -> None:
    def fail(*_: object) -> Metrics:
        raise ValueError("no rows")

    config, root = tiny_config(tiny.folder), tmp_path / "run"
    with pytest.raises(ValueError, match="no rows"):
        server_app(config, measuring(fail))(nodes(tiny), context_of({"run-dir": str(root)}))
    assert not RunFolder(root).summary.exists()
    server_app(config)(nodes(tiny), context_of({"resume": str(root)}))
    assert RunFolder(root).summary.is_file()


def test_without_a_folder_a_run_is_below_runs_under_its_name(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model: dict[str, str | int | float | bool] = {"model.path": str(tiny.folder), "model.max_length": 8}
    driver = open_run(None, context_of({**model, "run.name": "mine", "data.labels": '["a", "b"]'}))
    driver.close()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mine"]
    assert driver.run.config.data.labels == ("a", "b")


def test_a_folder_without_a_run_is_not_resumed(tiny: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing"):
        open_run(tiny_config(tiny.folder), context_of({"resume": str(tmp_path / "nothing")}))
