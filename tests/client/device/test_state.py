"""A device's folder survives restarts, and no damaged file of it stops the device."""

from pathlib import Path

import pytest

from fedcore.client.device.state import SpooledUpdate, StateFolder
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, UpdateSubmission
from tests.tiny_run import device_report

KEEP_SET = KeepSet(heads=((0, 1),), channels=((0, 3, 5),))


def folder(root: Path) -> StateFolder:
    return StateFolder.open(root / "state")


def spooled_in(state: StateFolder, scores: bytes | None = None) -> SpooledUpdate:
    def put(data: bytes) -> BlobRef:
        return BlobRef(id=state.blobs.put_bytes(data), size=len(data), name="update")

    submission = UpdateSubmission(
        round=3,
        update=put(b"update"),
        scores=None if scores is None else put(scores),
        keep_set=KEEP_SET.blob_id,
        report=device_report(),
    )
    spooled = SpooledUpdate(key="key", submission=submission)
    state.spool(spooled, KEEP_SET)
    return spooled


def test_the_identity_stays_and_every_session_is_newer(tmp_path: Path) -> None:
    name, epoch = folder(tmp_path).identity()
    assert (epoch, folder(tmp_path).identity()) == (1, (name, 2))
    assert StateFolder.open(tmp_path / "other").identity()[0] != name
    assert (tmp_path / "state" / "identity.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"uuid": "a"}', '{"uuid": "a", "epoch": "x"}', "\xff"])
def test_a_damaged_identity_is_made_anew(text: str, tmp_path: Path) -> None:
    state = folder(tmp_path)
    (state.root / "identity.json").write_bytes(text.encode("latin-1"))
    name, epoch = state.identity()
    assert len(name) == 32 and epoch == 1 and state.identity() == (name, 2)


def test_the_committed_keep_set_survives_a_restart(tmp_path: Path) -> None:
    assert folder(tmp_path).keep_set() is None
    folder(tmp_path).commit_keep_set(KEEP_SET)
    assert folder(tmp_path).keep_set() == KEEP_SET


@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00\x01", KEEP_SET.to_bytes()[:-3]])
def test_a_damaged_keep_set_is_none(damage: bytes, tmp_path: Path) -> None:
    state = folder(tmp_path)
    (state.root / "keep_set.json").write_bytes(damage)
    assert state.keep_set() is None


@pytest.mark.parametrize("scores", [None, b"scores"])
def test_the_spool_survives_a_restart_and_goes_with_its_blobs(scores: bytes | None, tmp_path: Path) -> None:
    assert folder(tmp_path).spooled_update() is None
    spooled = spooled_in(folder(tmp_path), scores)
    state = folder(tmp_path)
    assert state.spooled_update() == spooled
    assert state.spooled_keep_set() == KEEP_SET
    assert state.spooled_blobs() == state.blobs.names(), "nothing of an update is kept beside it"
    state.clear_spool()
    assert state.spooled_update() is state.spooled_keep_set() is None and not state.blobs.names()
    assert [path.name for path in state.root.iterdir()] == ["blobs"]
    state.clear_spool()


@pytest.mark.parametrize("damage", [None, b"{", KeepSet(heads=((0,),), channels=((0,),)).to_bytes()])
def test_a_keep_set_that_is_not_the_update_s_is_none(damage: bytes | None, tmp_path: Path) -> None:
    state = folder(tmp_path)
    spooled_in(state)
    path = state.root / "update.keep_set.json"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert state.spooled_keep_set() is None and state.spooled_update() is not None


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 10, 40, -1])
def test_a_torn_spool_is_none_and_can_be_cleared(kept: int, tmp_path: Path) -> None:
    state = folder(tmp_path)
    spooled_in(state)
    path = state.root / "update.spool"
    path.write_bytes(path.read_bytes()[:kept])
    assert state.spooled_update() is None
    state.clear_spool()
    assert not path.exists()
    assert spooled_in(state) == state.spooled_update()


@pytest.mark.parametrize("damage", ["gone", "other bytes"])
def test_a_spool_whose_blob_is_damaged_is_none(damage: str, tmp_path: Path) -> None:
    state = folder(tmp_path)
    spooled = spooled_in(state, b"scores")
    assert spooled.submission.scores is not None
    path = state.blobs.path(spooled.submission.scores.id)
    path.unlink() if damage == "gone" else path.write_bytes(b"spoilt")
    again = folder(tmp_path)
    assert again.spooled_update() is None
    again.clear_spool()
    assert not again.blobs.has(spooled.submission.update.id)


def test_an_update_is_hashed_once_by_each_process(tmp_path: Path) -> None:
    state = folder(tmp_path)
    spooled = spooled_in(state)
    state.blobs.path(spooled.submission.update.id).write_bytes(b"damage")
    assert state.spooled_update() == spooled, "this process wrote it, and does not look again"
    assert folder(tmp_path).spooled_update() is None, "another one does"
    state.blobs.delete(spooled.submission.update.id)
    assert state.spooled_update() is None


def test_a_damaged_update_is_deleted_with_its_spool(tmp_path: Path) -> None:
    blob_id = spooled_in(folder(tmp_path)).submission.update.id
    state = folder(tmp_path)
    state.blobs.path(blob_id).write_bytes(b"damage")
    assert state.spooled_update() is None
    state.clear_spool()
    assert not state.blobs.has(blob_id), "or the same update, made again, would be taken for stored"
