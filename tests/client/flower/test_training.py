"""One assignment at a Flower node: arrays in, a submission and its arrays out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

import fedcore.client.flower.training as module
from fedcore.client.device.state import StateFolder
from fedcore.client.flower.settings import NodeSettings
from fedcore.client.flower.state import NodeState
from fedcore.client.flower.training import model_source_of, train_assignment
from fedcore.client.options import DataOptions, DeviceLimits
from fedcore.client.training.encoding import encoded_update
from fedcore.client.training.trainer import ModelSource
from fedcore.core.codec.chain import decode, encode
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import BlobCorrupt
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BaseShift, BlobRef, WireAssignment
from fedcore.storage.blobs.name import blob_name
from tests.client.conftest import GEOMETRY, WELCOME, FakeTrainer, make_assignment
from tests.client.device.test_arrival import HERE
from tests.tiny_run import small_update

SOURCE = ModelSource(folder=Path("base"), labels=("a", "b"), head="mean", dtype="float32", max_length=8, targets=())


class Ticking:
    """A clock that moves on by a second whenever it is read."""

    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    (tmp_path / "rows.csv").write_text("text,label\none,a\ntwo,b\nthree,a\n")
    return NodeSettings(
        name="cam",
        limits=DeviceLimits(device_class="nx"),
        model=str(tmp_path / "base"),
        data=DataOptions(train=str(tmp_path / "rows.csv"), test=None, text=("text",), label="label", test_fraction=0.0),
    )


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> FakeTrainer:
    fake = FakeTrainer()
    monkeypatch.setattr(module, "warm_trainer", lambda source, settings: fake)
    return fake


def array(data: bytes) -> Array:
    return Array(dtype="uint8", shape=(len(data),), stype="fedcore.identity", data=data)


def arrays_of(whole: WireAssignment, *more: bytes) -> ArrayRecord:
    """What comes beside an assignment whose blobs `whole` has inside."""
    held = {ref.id: array(ref.inline) for ref in whole.refs} | {blob_name(data): array(data) for data in more}
    return ArrayRecord(held)


def bare(assignment: WireAssignment) -> WireAssignment:
    return assignment.with_refs(lambda ref: replace(ref, inline=b""))


def node(tmp_path: Path) -> NodeState:
    return NodeState(StateFolder.open(tmp_path / "node"))


def test_an_assignment_is_answered_by_a_submission_and_its_update(
    settings: NodeSettings, trainer: FakeTrainer, tmp_path: Path
) -> None:
    whole = make_assignment(2)
    submission, payloads = train_assignment(
        bare(whole), arrays_of(whole), SOURCE, settings, node(tmp_path), clock=Ticking()
    )
    ((name, update),) = payloads.items()
    kept = KeepSet.from_bytes(whole.keep_set.inline)
    expected = small_update(GEOMETRY, whole, kept, "device")
    assert submission.update == BlobRef(id=blob_name(update.data), size=len(update.data), name="update")
    assert (name, update.stype, submission.round) == (submission.update.id, "fedcore.identity", 2)
    assert submission.keep_set == whole.keep_set.id and submission.scores is None
    decoded = decode(update.data)
    assert set(decoded) == set(expected)
    for tensor, value in expected.items():
        np.testing.assert_array_equal(decoded[tensor], value)
    report = submission.report
    assert report.phase_s == {"download": 1.0, "prune": 0.1, "train": 0.2, "encode": 1.0}
    assert report.bytes_down == sum(ref.size for ref in whole.refs) and report.bytes_up == len(update.data)
    assert report.num_examples == 3 and report.steps == 3


def test_scores_travel_beside_the_update_without_its_codec(
    settings: NodeSettings, trainer: FakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = GroupScores(heads=(np.ones(2, np.float32),), channels=(np.ones(16, np.float32),))
    run = trainer.run

    def scoring(*arguments: Any, **named: Any) -> Any:
        outcome = run(*arguments, **named)
        return replace(outcome, result=replace(outcome.result, scores=scores))

    monkeypatch.setattr(trainer, "run", scoring)
    whole = make_assignment(codec="bf16+zstd")
    submission, payloads = train_assignment(bare(whole), arrays_of(whole), SOURCE, settings, node(tmp_path))
    assert submission.scores is not None and submission.scores.name == "scores"
    assert [value.stype for value in payloads.values()] == ["fedcore.bf16+zstd", "fedcore.identity"]
    assert submission.report.bytes_up == sum(len(value.data) for value in payloads.values())
    np.testing.assert_array_equal(decode(payloads[submission.scores.id].data)["layers.0.heads"], np.ones(2, np.float32))


def test_what_training_left_counts_once_a_later_assignment_says_so(
    settings: NodeSettings, trainer: FakeTrainer, tmp_path: Path
) -> None:
    state = node(tmp_path)
    for number, counted in ((1, 0), (2, 0), (3, 2)):
        whole = replace(make_assignment(number), counted_round=counted)
        train_assignment(bare(whole), arrays_of(whole), SOURCE, settings, state)
    steps = [left.moments["head.bias"].step if left.moments else 0 for _, left in trainer.runs]
    assert steps == [0, 0, 2], "round 1 did not count, round 2 did"


def test_a_base_shift_reaches_training_whole(
    settings: NodeSettings, trainer: FakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Any] = []
    run = trainer.run
    monkeypatch.setattr(trainer, "run", lambda *given, **named: received.append(given[1]) or run(*given, **named))
    shape = GEOMETRY.shape("q")
    shift = encode({"layers.0.q.W": np.ones(shape, np.float32)}, "identity")
    whole = make_assignment()
    ref = BlobRef(id=blob_name(shift), size=len(shift), name="1")
    shifted = replace(whole, base_shift=BaseShift(whole=ref))
    submission, _ = train_assignment(bare(shifted), arrays_of(whole, shift), SOURCE, settings, node(tmp_path))
    np.testing.assert_array_equal(received[0].tensors["layers.0.q.W"], np.ones(shape, np.float32))
    assert submission.report.bytes_down == sum(each.size for each in whole.refs) + len(shift)


def test_an_array_that_is_not_what_its_name_says_is_refused(
    settings: NodeSettings, trainer: FakeTrainer, tmp_path: Path
) -> None:
    whole = make_assignment()
    arrays = arrays_of(whole)
    arrays[whole.head.id] = array(b"other bytes")
    with pytest.raises(
        BlobCorrupt, match=f"expected {whole.head.id}, the array that came is {blob_name(b'other bytes')}"
    ):
        train_assignment(bare(whole), arrays, SOURCE, settings, node(tmp_path))
    assert trainer.runs == []


def test_error_feedback_goes_on_from_round_to_round(
    settings: NodeSettings, trainer: FakeTrainer, tmp_path: Path
) -> None:
    state = node(tmp_path)
    for number in (1, 2):
        whole = replace(make_assignment(number, codec="ef+topk:0.1"), counted_round=number - 1)
        submission, payloads = train_assignment(bare(whole), arrays_of(whole), SOURCE, settings, state)
    kept = KeepSet.from_bytes(whole.keep_set.inline)
    alone = b"".join(
        encoded_update(
            whole,
            small_update(GEOMETRY, whole, kept, "device"),
            keep_set=kept,
            geometry=GEOMETRY,
            residuals=StateFolder.open(tmp_path / "another").residuals,
        )
    )
    assert payloads[submission.update.id].data != alone, "what round 1 did not send is in it"


def test_a_run_says_how_the_nodes_model_is_read(settings: NodeSettings, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    assert model_source_of(WELCOME, HERE, settings) == ModelSource(
        folder=tmp_path / "base", labels=("a", "b"), head="mean", dtype="float32", max_length=8, targets=WELCOME.targets
    )
