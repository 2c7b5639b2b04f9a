"""A part of the adapter trains: what is sent, what is refused, and that its sum is the sum with zeros in it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedcore.core.aggregation.table import AGGREGATORS, make_aggregator
from fedcore.core.contract.update import Update, verify_update
from fedcore.core.contract.update_stack import UpdateStack, verify_stack
from fedcore.core.errors import ConfigError, UpdateRejected
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart, ZeroFilled
from tests.core.aggregation.cohort import make_cohort, make_spec, random_keep_set, same_bits, trained_adapter

SPEC = make_spec("gqa")
NAMES = tuple(SPEC.shapes())
SUMS = tuple(name for name in AGGREGATORS if name != "layer-mean")  # which has weights by layer
PARTS = (
    TrainedPart(factors=Factors.A),
    TrainedPart(factors=Factors.B),
    TrainedPart(first_layer=1),
    TrainedPart(factors=Factors.A, first_layer=1),
    TrainedPart(first_layer=2),
)


def cohort(trains: TrainedPart) -> list[Update]:
    """Updates of several ranks and keep-sets, small enough for any aggregator, as they are sent."""
    updates = make_cohort(SPEC, np.random.default_rng(0))
    small = [{name: value * np.float32(1e-5) for name, value in each.tensors.items()} for each in updates]
    return [
        replace(each, tensors=dict(trains.of(tensors)), trains=trains)
        for each, tensors in zip(updates, small, strict=True)
    ]


def with_zeros(update: Update) -> Update:
    """The same update with everything in it."""
    shapes = SPEC.shapes(rank=update.rank, keep_set=update.keep_set)
    tensors = {name: update.tensors.get(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()}
    return replace(update, tensors=tensors, trains=EVERYTHING)


def finished(name: str, updates: list[Update]) -> dict[str, Any]:
    aggregator, adapter = make_aggregator(name), trained_adapter(SPEC, np.random.default_rng(1))
    partial = aggregator.start(SPEC, adapter)
    for update in updates:
        partial = aggregator.fold(partial, verify_update(update, SPEC))
    return aggregator.finish(partial, adapter)[0]


@pytest.mark.parametrize(
    ("trains", "held"),
    [
        (EVERYTHING, ["layers.0.q.A", "layers.0.q.B", "layers.1.q.A", "layers.1.q.B", "head.bias"]),
        (PARTS[0], ["layers.0.q.A", "layers.1.q.A", "head.bias"]),
        (PARTS[1], ["layers.0.q.B", "layers.1.q.B", "head.bias"]),
        (PARTS[2], ["layers.1.q.A", "layers.1.q.B", "head.bias"]),
        (PARTS[3], ["layers.1.q.A", "head.bias"]),
        (PARTS[4], ["head.bias"]),
    ],
)
def test_what_trains_is_told_by_name(trains: TrainedPart, held: list[str]) -> None:
    names = {"layers.0.q.A": 1, "layers.0.q.B": 2, "layers.1.q.A": 3, "layers.1.q.B": 4, "head.bias": 5}
    assert list(trains.of(names)) == held and trains.everything == (len(held) == len(names))


def test_a_layer_before_the_first_is_refused() -> None:
    with pytest.raises(ConfigError, match="first trained layer must be 0 or more, got -1"):
        TrainedPart(first_layer=-1)


def test_what_is_absent_reads_as_zeros_that_nobody_can_change() -> None:
    filled = ZeroFilled({"b": np.ones(2, np.float32)}, {"a": (2, 3), "b": (2,)})
    assert list(filled) == ["a", "b"] and len(filled) == 2
    assert filled["a"].shape == (2, 3) and not filled["a"].any() and filled["a"].dtype == np.float32
    np.testing.assert_array_equal(filled["b"], np.ones(2))
    with pytest.raises(ValueError, match="read-only"):
        filled["a"][0] = 1.0
    with pytest.raises(KeyError):
        filled["c"]


@pytest.mark.parametrize("trains", PARTS)
def test_an_update_of_a_part_gets_zeros_for_the_rest(trains: TrainedPart) -> None:
    for update in cohort(trains):
        verified = verify_update(update, SPEC)
        assert verified.verified and set(verified.tensors) == set(NAMES)
        for name, value in with_zeros(update).tensors.items():
            np.testing.assert_array_equal(verified.tensors[name], value)


@pytest.mark.parametrize("trains", PARTS)
def test_an_update_with_anything_frozen_or_without_what_trains_is_refused(trains: TrainedPart) -> None:
    update = cohort(trains)[0]
    frozen = next(name for name in NAMES if not trains.has(name))
    zeros = np.zeros(SPEC.shapes(rank=update.rank, keep_set=update.keep_set)[frozen], np.float32)
    with pytest.raises(UpdateRejected, match=rf"missing tensors \[\], unexpected \['{frozen}'\]"):
        verify_update(replace(update, tensors={**update.tensors, frozen: zeros}), SPEC)
    with pytest.raises(UpdateRejected, match="missing tensors"):
        verify_update(replace(update, trains=EVERYTHING), SPEC)
    with pytest.raises(UpdateRejected, match=r"missing tensors \['head.bias'\]"):
        verify_update(replace(update, tensors={n: v for n, v in update.tensors.items() if n != "head.bias"}), SPEC)


@pytest.mark.parametrize("trains", PARTS)
@pytest.mark.parametrize("name", SUMS)
def test_every_aggregator_makes_of_it_what_zeros_would(name: str, trains: TrainedPart) -> None:
    updates = cohort(trains)
    assert same_bits(finished(name, updates), finished(name, [with_zeros(each) for each in updates]))


@pytest.mark.parametrize("name", SUMS)
def test_devices_of_different_parts_share_a_sum(name: str) -> None:
    updates = [cohort(trains)[index] for index, trains in enumerate((*PARTS[:3], EVERYTHING))]
    assert same_bits(finished(name, updates), finished(name, [with_zeros(each) for each in updates]))


@pytest.mark.parametrize("trains", PARTS)
@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_stack_of_a_part_is_its_updates(name: str, trains: TrainedPart) -> None:
    rng = np.random.default_rng(3)
    kept = random_keep_set(SPEC, rng, sparsity=0.3)
    updates = [replace(each, rank=4, keep_set=kept) for each in cohort(trains)]
    shapes = trains.of(SPEC.shapes(rank=4, keep_set=kept))
    updates = [
        replace(each, tensors={n: (1e-5 * rng.standard_normal(s)).astype(np.float32) for n, s in shapes.items()})
        for each in updates
    ]
    stack = UpdateStack(
        round=1,
        devices=tuple(each.device for each in updates),
        weights=tuple(each.weight for each in updates),
        rank=4,
        keep_set=kept,
        tensors={name: np.stack([each.tensors[name] for each in updates]) for name in shapes},
        trains=trains,
    )
    good, refused = verify_stack(stack, SPEC)
    assert refused == () and set(good.tensors) == set(NAMES) and good.update(1).trains == trains
    aggregator, adapter = make_aggregator(name), trained_adapter(SPEC, np.random.default_rng(1))
    stacked = aggregator.finish(aggregator.fold_stack(aggregator.start(SPEC, adapter), good), adapter)[0]
    assert same_bits(stacked, finished(name, updates))
    _, refused = verify_stack(replace(stack, trains=EVERYTHING), SPEC)
    assert len(refused) == len(stack) and "missing tensors" in refused[0][1]
