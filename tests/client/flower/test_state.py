"""What a node keeps between messages, and what the next assignment makes of it."""

from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, RecordDict

from fedcore.client.device.state import StateFolder
from fedcore.client.flower.context import load_context, save_context
from fedcore.client.flower.state import NodeState, node_folder
from fedcore.client.training.training_state import TrainingState
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.training.moments import Holding, Moment
from tests.tiny_run import MODEL

KEEP_SET = KeepSet.full(geometry_from_config(MODEL))


def trained(value: float) -> TrainingState:
    moment = Moment(first=np.full(2, value, np.float32), second=np.ones(2, np.float32), step=3)
    return TrainingState(basis="b", holding=Holding(keep_set=KEEP_SET, rank=2), moments={"w": moment})


def context(run_id: int = 7) -> Context:
    return Context(run_id=run_id, node_id=1, node_config={"n": 1}, state=RecordDict(), run_config={})


def first(state: TrainingState) -> float:
    return float(state.moments["w"].first[0])


def test_what_training_left_counts_once_its_round_does(tmp_path: Path) -> None:
    node = NodeState(StateFolder.open(tmp_path))
    assert node.settle(0) == TrainingState()
    node.keep(trained(1.0), 1)
    assert first(node.settle(1)) == 1.0
    assert node.folder.keep_set() == KEEP_SET
    node.keep(trained(2.0), 2)
    assert first(node.settle(1)) == 1.0, "round 2 was void, or its update late"
    assert first(node.settle(2)) == 1.0, "and what it left is gone"
    node.keep(trained(3.0), 3)
    node.keep(trained(4.0), 4)
    assert first(node.settle(4)) == 4.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keep_set.json", "training.safetensors"]


def test_a_context_carries_a_nodes_folder_from_message_to_message() -> None:
    held = context()
    with node_folder(held, None) as folder:
        NodeState(folder).keep(trained(1.0), 1)
    with node_folder(held, None) as folder:
        assert first(NodeState(folder).settle(1)) == 1.0
    assert set(held.state.config_records["fedcore"]) == {"keep_set.json", "training.safetensors"}
    with pytest.raises(ZeroDivisionError), node_folder(held, None) as folder:
        NodeState(folder).keep(trained(9.0), 2)
        1 / 0  # noqa: B018
    assert set(held.state.config_records["fedcore"]) == {"keep_set.json", "training.safetensors"}, "as if never begun"


def test_a_node_with_a_place_of_its_own_keeps_nothing_in_the_context(tmp_path: Path) -> None:
    held = context()
    with node_folder(held, tmp_path / "kept") as folder:
        NodeState(folder).keep(trained(1.0), 1)
    assert not held.state and (tmp_path / "kept" / "training-next-1.safetensors").is_file()


def test_a_context_on_disk_is_its_runs_own(tmp_path: Path) -> None:
    held = context()
    held.state["own"] = ConfigRecord({"word": "kept"})
    save_context(tmp_path, held)
    assert load_context(tmp_path, 7) == held
    assert load_context(tmp_path, 8) is None
    (tmp_path / "context.pb").write_bytes(b"\xff\xff")
    assert load_context(tmp_path, 7) is None
    assert load_context(tmp_path / "empty", 7) is None
