"""Which model an evaluation measures: the dense one until a device is cut, then those of the classes by turns."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import EvaluateTask
from fedcore.server.rounds.evaluator_tasks import (
    FleetLabels,
    class_task,
    dense_task,
    export_task,
    fleet_labels,
    round_task,
)
from fedcore.server.run.run_folder import RunFolder
from fedcore.transport.payload import payload
from tests.server.aggregate.test_engine import PRUNING, Played, open_engine
from tests.server.conftest import TinyModel

CLASSES = ("tx2", "agx")


@pytest.fixture
def played(tiny: TinyModel, tmp_path: Path) -> Played:
    return open_engine(RunFolder(tmp_path), tiny, [*PRUNING, "strategy.recovery_rounds=0"])


def keep_set(played: Played, task: EvaluateTask) -> KeepSet:
    assert task.keep_set is not None
    return KeepSet.from_bytes(payload(task.keep_set, played.engine.blobs))


def test_turns_begin_with_the_first_counted_update_of_a_pruned_device(played: Played, tiny: TinyModel) -> None:
    first = round_task(played.engine, CLASSES, 5, FleetLabels(majority="a"))
    assert (first.keep_set, first.floors, first.majority, first.rows) == (None, True, "a", 5)
    works = played.begin()
    tasks = []
    for number in range(1, 5):
        cut = any(work.arm.sparsity > 0 for work in works.values())
        played.count(works)
        works = played.close(number, last=number == 4)
        tasks.append(round_task(played.engine, CLASSES, 5))
        assert (tasks[-1].keep_set is not None) == (cut or played.engine.has_pruned)
        assert tasks[-1].adapter.round == number and not tasks[-1].floors
    turns = [task.device_class for task in tasks]
    assert turns[0] == "" and set(turns[-2:]) == set(CLASSES), "one class a round"
    expected = played.engine.strategy.export_keep_set(played.engine.state, tasks[-1].device_class)
    assert keep_set(played, tasks[-1]) == expected, "what the run would deliver now"
    assert tasks[-1].sparsity == expected.sparsity(tiny.geometry) > 0
    played.engine.log.close()
    played.engine.ledger.close()


def test_a_resumed_run_goes_on_with_the_turns(played: Played, tiny: TinyModel) -> None:
    works = played.begin()
    for number in (1, 2, 3):
        played.count(works)
        works = played.close(number)
    before = round_task(played.engine, CLASSES, 5)
    played.engine.log.close()
    played.engine.ledger.close()
    again = open_engine(played.folder, tiny, [*PRUNING, "strategy.recovery_rounds=0"], resume=True)
    after = round_task(again.engine, CLASSES, 5)
    assert before.device_class and (after.device_class, after.sparsity) == (before.device_class, before.sparsity)
    assert again.engine.counted == 3
    again.engine.log.close()
    again.engine.ledger.close()


def test_void_rounds_take_no_turn_and_cut_nothing(played: Played) -> None:
    works = played.begin()
    played.count(works)
    works = played.close(1)
    played.close(2, void=True, accepted=())
    assert played.engine.counted == 1 and not played.engine.has_pruned
    assert round_task(played.engine, CLASSES, 5).keep_set is None
    played.engine.log.close()
    played.engine.ledger.close()


def test_a_measured_keep_set_goes_once_no_task_needs_it(played: Played) -> None:
    works = played.begin()
    task = class_task(played.engine, "tx2", 5)
    assert task.keep_set is not None and task.keep_set.id in played.engine.measured_keep_sets
    played.engine.pinned_blobs = {task.keep_set.id}
    played.count(works)
    works = played.close(1)
    assert played.engine.blobs.has(task.keep_set.id)
    played.engine.pinned_blobs = set()
    played.count(works)
    kept = {ref.id for work in played.close(2).values() for ref in work.keep_sets}
    assert played.engine.blobs.has(task.keep_set.id) == (task.keep_set.id in kept)
    assert not played.engine.measured_keep_sets
    played.engine.log.close()
    played.engine.ledger.close()


def test_the_end_measures_the_dense_model_with_floors_and_exports_classes(played: Played) -> None:
    task = dense_task(played.engine, 0, floors=True, majority="b")
    assert (task.rows, task.keep_set, task.floors, task.majority) == (0, None, True, "b")
    export = export_task(played.engine, "tx2")
    assert export.device_class == "tx2" and export.keep_set == class_task(played.engine, "tx2", 0).keep_set
    played.engine.log.close()
    played.engine.ledger.close()


def test_the_majority_is_of_all_devices_that_tell() -> None:
    quiet = DeviceProfile(name="c", device_class="tiny", num_examples=9)
    first = replace(quiet, name="a", label_counts=(("neg", 5), ("odd", 90), ("pos", 1)))
    second = replace(quiet, name="b", label_counts=(("pos", 6),))
    assert fleet_labels([quiet, first, second], ("neg", "pos"), "balance").majority == "pos"
    assert fleet_labels([first], ("neg", "pos"), "balance").majority == "neg"
    assert fleet_labels([quiet], ("neg", "pos"), "balance").majority == ""
    assert fleet_labels([first], (), "balance").majority == ""


@pytest.mark.parametrize(("label_skew", "lacking"), [("balance", True), ("adjust", True), ("ignore", False)])
def test_models_of_a_fleet_that_lacks_labels_get_offsets(label_skew: str, lacking: bool, played: Played) -> None:
    one = DeviceProfile(name="a", device_class="tx2", num_examples=9, label_counts=(("neg", 9),))
    other = DeviceProfile(name="b", device_class="agx", num_examples=9, label_counts=(("pos", 9),))
    known = fleet_labels([one, other], ("neg", "pos"), label_skew)
    assert known.lacking == lacking
    assert class_task(played.engine, "tx2", 5, known).offsets == lacking
    assert export_task(played.engine, "tx2", known).offsets == lacking
    played.engine.log.close()
    played.engine.ledger.close()
