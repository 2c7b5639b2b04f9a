from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcore.core.contract.update import MAX_ABS_VALUE, Update, verify_update
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, initial_adapter, restrict
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet

GEOMETRY = geometry_from_config(
    {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 3,
        "intermediate_size": 6,
        "vocab_size": 20,
    }
)
SPEC = AdapterSpec(geometry=GEOMETRY, rank=4, targets=("q", "gate", "down"), head=(("head.weight", (2, 8)),))
KEPT = KeepSet(heads=((0,), (1,)), channels=((0, 2, 5), (1, 3, 4)))
NAME = "layers.1.down.A"

Tensors = dict[str, NDArray[np.float32]]


def _update(change: Callable[[Tensors], object] = lambda tensors: None) -> Update:
    tensors = restrict(SPEC, initial_adapter(SPEC, np.random.default_rng(0)), rank=2, keep_set=KEPT)
    change(tensors)
    return Update(device="nx-0", round=3, weight=10, rank=2, keep_set=KEPT, tensors=tensors)


def test_an_update_that_fits_is_let_through() -> None:
    update = _update()
    verify_update(update, SPEC)
    assert update.key == ("nx-0", 3)


def _set(name: str, value: NDArray[np.generic]) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: value})  # type: ignore[dict-item]


def _fill(value: float) -> Callable[[Tensors], object]:
    return lambda tensors: tensors[NAME].__setitem__((1, 2), value)


BAD = [
    (lambda tensors: tensors.pop(NAME), rf"missing tensors \['{NAME}'\], unexpected \[\]"),
    (_set("head.bias", np.zeros(2, np.float32)), r"missing tensors \[\], unexpected \['head.bias'\]"),
    (lambda tensors: tensors.clear(), r"missing tensors \['head.weight', 'layers.0.down.A', 'layers.0.down.B'\]"),
    (_set(NAME, np.zeros((2, 6), np.float32)), r"layers.1.down.A is float32 \(2, 6\), expected float32 \(2, 3\)"),
    (_set(NAME, np.zeros((3, 3), np.float32)), r"is float32 \(3, 3\), expected float32 \(2, 3\)"),
    (_set(NAME, np.zeros(6, np.float32)), r"is float32 \(6,\), expected float32 \(2, 3\)"),
    (_set(NAME, np.zeros((2, 3), np.float64)), r"is float64 \(2, 3\), expected float32"),
    (_set(NAME, np.zeros((2, 3), np.int32)), r"is int32 \(2, 3\), expected float32"),
    (_fill(np.nan), "layers.1.down.A holds NaN or infinity; lower the learning rate"),
    (_fill(np.inf), "holds NaN or infinity"),
    (_fill(-np.inf), "holds NaN or infinity"),
    (_fill(MAX_ABS_VALUE), "layers.1.down.A moved by 64, more than the bound of 64"),
    (_fill(-1e30), r"moved by 1e\+30"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_an_update_that_does_not_fit_is_rejected_with_its_sender(
    change: Callable[[Tensors], object], message: str
) -> None:
    with pytest.raises(UpdateRejected, match=message) as caught:
        verify_update(_update(change), SPEC)
    assert str(caught.value).startswith("update of nx-0 for round 3: ")


def test_the_largest_magnitude_below_the_bound_passes() -> None:
    verify_update(_update(_fill(float(np.nextafter(np.float32(MAX_ABS_VALUE), np.float32(0))))), SPEC)


def test_another_rank_or_keep_set_than_the_tensors_have_is_rejected() -> None:
    with pytest.raises(UpdateRejected, match="expected float32"):
        verify_update(replace(_update(), rank=3), SPEC)
    with pytest.raises(UpdateRejected, match="expected float32"):
        verify_update(replace(_update(), keep_set=KeepSet.full(GEOMETRY)), SPEC)


def test_every_tensor_is_read_once() -> None:
    reads: list[str] = []

    class Counting(dict[str, NDArray[np.float32]]):
        def __getitem__(self, name: str) -> NDArray[np.float32]:
            reads.append(name)
            return super().__getitem__(name)

    update = _update()
    verify_update(replace(update, tensors=Counting(update.tensors)), SPEC)
    assert sorted(reads) == sorted(update.tensors)
