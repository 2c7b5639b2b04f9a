"""Devices without some layers: what they contribute, by hand, under both means, in any tree, and what is sent."""

from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.layer_mean import LayerMean
from fedcore.core.contract.update import Update, verify_update
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.keep_set import KeepSet
from tests.core.aggregation.cohort import make_spec, make_update, random_keep_set, same_bits, trained_adapter

LACKS = {"dense": None, "first": 0, "last": 1}


def without(keep_set: KeepSet, layer: int | None) -> KeepSet:
    heads, channels = (
        tuple(() if place == layer else row for place, row in enumerate(rows))
        for rows in (keep_set.heads, keep_set.channels)
    )
    return KeepSet(heads=heads, channels=channels)


def cohort(family: str) -> list[Update]:
    spec, rng = make_spec(family), np.random.default_rng(3)
    updates = []
    for device, lacks in LACKS.items():
        keep_set = without(random_keep_set(spec, rng, sparsity=0.4), lacks)
        updates.append(make_update(spec, rng, device, rank=4, keep_set=keep_set))
    return [verify_update(update, spec) for update in updates]


def in_full(update: Update, family: str, name: str) -> np.ndarray:
    """The increment of one factor in full coordinates, float64, written out by hand."""
    spec = make_spec(family)
    full = np.zeros(spec.shapes()[name])
    if name not in update.tensors:
        return full
    value = update.tensors[name].astype(np.float64)
    if not name.startswith("layers."):
        return value
    _, layer, module, factor = name.split(".")
    cut, kept = spec.geometry.cut(module), update.keep_set.indices(spec.geometry, int(layer), module)
    here = cut is not None and cut.side == ("out" if factor == "B" else "in")
    lines = kept if here and kept is not None else np.arange(full.shape[0 if factor == "B" else 1])
    if factor == "B":
        full[lines, : update.rank] = value
    else:
        full[: update.rank, lines] = value
    return full


@pytest.mark.parametrize("family", ["bert", "gqa", "mqa"])
@pytest.mark.parametrize("aggregator", [FactorMean(), LayerMean()], ids=["factor-mean", "layer-mean"])
def test_the_mean_is_the_one_by_hand(family: str, aggregator: FactorMean | LayerMean) -> None:
    spec, updates = make_spec(family), cohort(family)
    adapter = trained_adapter(spec, np.random.default_rng(1))
    partial = aggregator.start(spec)
    for update in [*updates, *(replace(each, device=f"{each.device}-{turn}") for turn in (2, 3) for each in updates)]:
        partial = aggregator.fold(partial, update)  # the second and third of a pair share a group
    after, _ = aggregator.finish(partial, adapter)
    for name in spec.shapes():
        holders = updates
        if aggregator.name == "layer-mean" and name.startswith("layers."):
            holders = [each for each in updates if int(name.split(".")[1]) in each.keep_set.layers]
        total = sum(each.weight * in_full(each, family, name) for each in updates)
        expected = adapter[name] + total / sum(each.weight for each in holders)
        np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("aggregator", [FactorMean(), LayerMean()], ids=["factor-mean", "layer-mean"])
def test_a_tree_gives_the_same_bits(aggregator: FactorMean | LayerMean) -> None:
    spec, updates = make_spec("gqa"), cohort("gqa")
    adapter = trained_adapter(spec, np.random.default_rng(1))
    flat = aggregator.start(spec)
    for update in updates:
        flat = aggregator.fold(flat, update)
    root = aggregator.fold(aggregator.start(spec), updates[2])
    edge = aggregator.fold(aggregator.fold(aggregator.start(spec), updates[1]), updates[0])
    sent = b"".join(bytes(chunk) for chunk in aggregator.pack(edge))
    root = aggregator.merge(root, aggregator.unpack(sent, spec))
    assert same_bits(aggregator.finish(root, adapter)[0], aggregator.finish(flat, adapter)[0])


def test_nothing_of_a_removed_layer_travels_and_what_does_is_refused() -> None:
    spec, update = make_spec("bert"), cohort("bert")[1]
    assert {name.split(".")[1] for name in update.tensors if name.startswith("layers.")} == {"1"}
    with_more = {**update.tensors, "layers.0.q.A": np.zeros((4, 24), dtype=np.float32)}
    with pytest.raises(UpdateRejected, match=r"unexpected \['layers.0.q.A'\]"):
        verify_update(replace(update, tensors=with_more, verified=False), spec)
