from pathlib import Path

import numpy as np
import pytest

from fedcore.client.training.base_shift_cache import BaseShiftCache
from fedcore.core.codec.chain import encode
from fedcore.core.errors import ProtocolError
from fedcore.protos.values import BaseShift, BlobRef
from fedcore.storage.blobs.store import BlobStore

NAME = "layers.0.q"


def put(blobs: BlobStore, name: str, **tensors: np.ndarray) -> BlobRef:  # type: ignore[type-arg]
    data = encode({f"{NAME}.{key}": value for key, value in tensors.items()}, "identity")
    return BlobRef(id=blobs.put_bytes(data), size=len(data), name=name)


def ones(rows: int, columns: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.ones((rows, columns), np.float32)


def test_it_takes_the_whole_once_and_then_steps_and_leaves_no_blob(tmp_path: Path) -> None:
    blobs, held = BlobStore(tmp_path), BaseShiftCache()
    held.advance(BaseShift(whole=put(blobs, "3", W=ones(40, 30))), blobs)
    step = put(blobs, "3-5", step_B=ones(40, 2), step_A=ones(2, 30))
    shift = BaseShift(whole=put(blobs, "5", W=3 * ones(40, 30)), steps=(step,))
    assert held.missing(shift) == (step,)
    held.advance(shift, blobs)
    assert held.round == 5 and np.array_equal(held.tensors[f"{NAME}.W"], 3 * ones(40, 30))
    assert held.missing(shift) == () and blobs.names() == {shift.whole.id}
    held.advance(None, blobs)
    assert (held.round, held.tensors) == (0, {})


def test_a_gap_in_the_steps_or_more_bytes_than_the_whole_mean_the_whole() -> None:
    steps = tuple(BlobRef(id=name, size=40, name=name) for name in ("2-3", "3-4", "4-5"))
    shift = BaseShift(whole=BlobRef(id="w", size=100, name="5"), steps=steps)
    assert [len(shift.since(number)) for number in (5, 4, 3)] == [0, 1, 2]
    assert shift.since(2) == shift.since(1) == shift.since(0) == shift.since(9) == (shift.whole,)


def test_a_step_that_does_not_fit_leaves_what_is_held(tmp_path: Path) -> None:
    blobs, held = BlobStore(tmp_path), BaseShiftCache()
    held.advance(BaseShift(whole=put(blobs, "1", W=ones(40, 30))), blobs)
    wrong = BaseShift(
        whole=put(blobs, "2", W=ones(40, 30)), steps=(put(blobs, "1-2", step_B=ones(41, 1), step_A=ones(1, 30)),)
    )
    with pytest.raises(ProtocolError, match=r"shape \(41, 30\), expected \(40, 30\)"):
        held.advance(wrong, blobs)
    assert held.round == 1 and np.array_equal(held.tensors[f"{NAME}.W"], ones(40, 30))
