"""Values of the wire: the parts that compute something."""

import dataclasses

import pytest

from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.protos.values import BaseShift, BlobRef, EnrolmentRequest, WireAssignment


def ref(name: str, size: int = 1) -> BlobRef:
    return BlobRef(id=f"sha256:{name}", size=size, name=name)


SHIFT = BaseShift(whole=ref("5", size=100), steps=(ref("2-3", size=40), ref("3-4", size=30), ref("4-5", size=30)))


@pytest.mark.parametrize(
    ("last_round", "names"),
    [
        (5, []),
        (4, ["4-5"]),
        (3, ["3-4", "4-5"]),
        (2, ["5"]),  # three steps of 100 bytes are no fewer than the whole
        (1, ["5"]),
        (0, ["5"]),
        (7, ["5"]),  # of another run
    ],
)
def test_a_device_fetches_the_fewest_bytes_of_a_base_shift(last_round: int, names: list[str]) -> None:
    assert [blob.name for blob in SHIFT.since(last_round)] == names


def test_a_base_shift_knows_its_round_and_blobs() -> None:
    assert SHIFT.round == 5
    assert [blob.name for blob in SHIFT.refs] == ["5", "2-3", "3-4", "4-5"]


TRAINING = TrainingSpec(
    batch_size=1,
    learning_rate=0.1,
    weight_decay=0.0,
    lora_scale=1.0,
    importance="taylor",
    keep_optimizer=False,
    codec="bf16",
)
WORK = WireAssignment(
    round=6,
    arm=Arm(sparsity=0.5, rank=2),
    keep_set=ref("keep"),
    rank_blocks=(ref("0-2"), ref("2-4")),
    head=ref("head"),
    local_steps=1,
    weight=1,
    seed=0,
    deadline_s=1.0,
    score=False,
    training=TRAINING,
    max_upload_bytes=1,
    basis="",
    base_shift=SHIFT,
)
IN_RINGS = dataclasses.replace(WORK, rings=(ref("inner"), ref("outer")))
WITHIN = dataclasses.replace(IN_RINGS, inside=ref("kept"))


@pytest.mark.parametrize(
    ("work", "kept", "keep_sets"),
    [(WORK, "keep", ["keep"]), (IN_RINGS, "outer", ["inner", "outer"]), (WITHIN, "kept", ["inner", "outer", "kept"])],
)
def test_the_keep_set_comes_from_the_innermost_blob_that_has_it(
    work: WireAssignment, kept: str, keep_sets: list[str]
) -> None:
    assert work.kept.name == kept
    assert [blob.name for blob in work.keep_sets] == keep_sets
    assert [blob.name for blob in work.refs] == [*keep_sets, "head", "0-2", "2-4"]


def test_every_reference_but_the_base_shift_is_changed() -> None:
    changed = WITHIN.with_refs(lambda blob: dataclasses.replace(blob, size=9))
    assert {blob.size for blob in (*changed.refs, changed.keep_set)} == {9}
    assert changed.base_shift == SHIFT
    assert changed.with_refs(lambda blob: dataclasses.replace(blob, size=1)) == WITHIN
    assert WORK.with_refs(lambda blob: blob) == WORK


def test_bytes_and_secrets_are_not_shown() -> None:
    assert "hush" not in repr(BlobRef(id="x", size=4, inline=b"hush"))
    assert "hush" not in repr(EnrolmentRequest(token="t", secret=b"hush", csr=b"hush"))
