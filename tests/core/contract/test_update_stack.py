"""A stack is its updates: the same rules, in the same words, for each of them alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcore.core.contract.update import MAX_ABS_VALUE, verify_update
from fedcore.core.contract.update_stack import UpdateStack, verify_stack
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, initial_adapter, restrict
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import make_spec

SPEC: AdapterSpec = make_spec("gqa")
KEPT = KeepSet(heads=((0, 2), (1, 2)), channels=((0, 2, 5), (1, 3, 4)))
NAME = "layers.1.down.A"

Tensors = dict[str, NDArray[np.float32]]


def _stack(devices: int = 4) -> UpdateStack:
    held = [
        restrict(SPEC, initial_adapter(SPEC, np.random.default_rng(seed)), rank=2, keep_set=KEPT)
        for seed in range(devices)
    ]
    return UpdateStack(
        round=3,
        devices=tuple(f"d{number}" for number in range(devices)),
        weights=tuple(range(1, devices + 1)),
        rank=2,
        keep_set=KEPT,
        tensors={name: np.stack([each[name] for each in held]) for name in held[0]},
    )


def test_a_stack_that_fits_is_let_through_whole() -> None:
    stack = _stack()
    good, refused = verify_stack(stack, SPEC)
    assert good == replace(stack, verified=True) and refused == () and not stack.verified
    assert good.update(2).verified and good.update(2).key == ("d2", 3) and good.update(2).weight == 3
    np.testing.assert_array_equal(good.update(2).tensors[NAME], stack.tensors[NAME][2])


def test_an_empty_stack_fits() -> None:
    empty = _stack().select(())
    assert len(empty) == 0 and verify_stack(empty, SPEC) == (replace(empty, verified=True), ())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, MAX_ABS_VALUE, -1e30])
def test_whose_values_do_not_fit_is_named_and_the_others_stay(value: float) -> None:
    stack = _stack()
    stack.tensors[NAME][1, 0, 2] = value
    stack.tensors["head.scale"][3] = value
    good, refused = verify_stack(stack, SPEC)
    assert good.devices == ("d0", "d2") and good.weights == (1, 3) and good.verified
    np.testing.assert_array_equal(good.tensors[NAME], stack.tensors[NAME][[0, 2]])
    for (device, text), index in zip(refused, (1, 3), strict=True):
        with pytest.raises(UpdateRejected) as caught:
            verify_update(stack.update(index), SPEC)
        assert (device, text) == (f"d{index}", str(caught.value))


def test_the_largest_magnitude_below_the_bound_passes() -> None:
    stack = _stack()
    stack.tensors[NAME][1, 0, 2] = np.nextafter(np.float32(MAX_ABS_VALUE), np.float32(0))
    assert verify_stack(stack, SPEC)[1] == ()


BAD: list[tuple[Callable[[Tensors], object], str]] = [
    (lambda tensors: tensors.pop(NAME), rf"missing tensors ['{NAME}'], unexpected []"),
    (lambda tensors: tensors.update({"head.x": np.zeros(4, np.float32)}), "missing tensors [], unexpected ['head.x']"),
    (lambda tensors: tensors.update({NAME: np.zeros((4, 2, 6), np.float32)}), "is float32 (2, 6) in a stack of 4"),
    (lambda tensors: tensors.update({NAME: np.zeros((3, 2, 3), np.float32)}), "in a stack of 3, expected float32"),
    (lambda tensors: tensors.update({NAME: np.zeros((4, 2, 3))}), "is float64 (2, 3) in a stack"),  # type: ignore[dict-item]
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_names_shapes_and_dtypes_concern_everybody(change: Callable[[Tensors], object], message: str) -> None:
    stack = _stack()
    tensors = dict(stack.tensors)
    change(tensors)
    good, refused = verify_stack(replace(stack, tensors=tensors), SPEC)
    assert len(good) == 0 and good.tensors.keys() == tensors.keys()
    assert [device for device, _ in refused] == list(stack.devices)
    assert all(text.startswith(f"update of {device} for round 3: ") and message in text for device, text in refused)


def test_there_are_as_many_weights_as_devices() -> None:
    with pytest.raises(UpdateRejected, match="a weight for each of 4 devices, got 3"):
        replace(_stack(), weights=(1, 2, 3))
