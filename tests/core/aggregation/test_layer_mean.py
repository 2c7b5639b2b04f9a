"""Every layer's mean over the devices that trained it, by hand, against the factor mean, and over any tree."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.layer_mean import LayerMean
from fedcore.core.aggregation.sums.partial_wire import pack_partial, unpack_partial
from fedcore.core.contract.update import verify_update
from fedcore.core.errors import ProtocolError, UpdateRejected
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart
from tests.core.aggregation.cohort import make_cohort, make_spec, same_bits, trained_adapter

SPEC = make_spec("gqa")
DEPTHS = (EVERYTHING, TrainedPart(first_layer=1), TrainedPart(first_layer=1), TrainedPart(first_layer=2))


def cohort(parts, seed=0):
    rng = np.random.default_rng(seed)
    updates = make_cohort(SPEC, rng, ranks=(2, 4, 8, 4)[: len(parts)])
    return [
        verify_update(replace(each, trains=trains, tensors=dict(trains.of(each.tensors))), SPEC)
        for each, trains in zip(updates, parts, strict=True)
    ]


def folded(aggregator, updates):
    partial = aggregator.start(SPEC)
    for update in updates:
        partial = aggregator.fold(partial, update)
    return partial


def packed(partial):
    return b"".join(bytes(chunk) for chunk in LayerMean().pack(partial))


def test_a_layer_moves_by_the_mean_of_those_who_trained_it():
    """Layer 0 by the first device alone, layer 1 by the first three, the head by all four."""
    adapter, updates = trained_adapter(SPEC, np.random.default_rng(1)), cohort(DEPTHS)
    after, report = LayerMean(server_lr=0.5).finish(folded(LayerMean(), updates), adapter)
    assert report.updates == 4 and report.weight == sum(each.weight for each in updates)
    for prefix, count in (("layers.0.", 1), ("layers.1.", 3), ("head.", 4)):
        alone, _ = FactorMean(server_lr=0.5).finish(folded(FactorMean(), updates[:count]), adapter)
        names = [name for name in SPEC.shapes() if name.startswith(prefix)]
        assert same_bits({name: after[name] for name in names}, {name: alone[name] for name in names})


def test_where_all_train_everything_it_is_the_factor_mean():
    adapter, updates = trained_adapter(SPEC, np.random.default_rng(1)), cohort((EVERYTHING,) * 4)
    ours, _ = LayerMean().finish(folded(LayerMean(), updates), adapter)
    theirs, _ = FactorMean().finish(folded(FactorMean(), updates), adapter)
    assert same_bits(ours, theirs)


def test_a_layer_nobody_trained_keeps_its_bits():
    adapter, updates = trained_adapter(SPEC, np.random.default_rng(1)), cohort((TrainedPart(first_layer=1),) * 2)
    after, _ = LayerMean().finish(folded(LayerMean(), updates), adapter)
    for name, value in adapter.items():
        assert (after[name].tobytes() == value.tobytes()) == name.startswith("layers.0."), name


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)), cut=st.integers(0, 4))
def test_any_order_and_tree_gives_the_same_bits(seed, order, cut):
    aggregator, adapter, updates = LayerMean(), trained_adapter(SPEC, np.random.default_rng(1)), cohort(DEPTHS, seed)
    flat = folded(aggregator, updates)
    mixed = [updates[index] for index in order]
    below = packed(folded(aggregator, mixed[:cut]))
    assert len(below) <= aggregator.packed_bytes_bound(SPEC, cut)
    tree = aggregator.merge(folded(aggregator, mixed[cut:]), aggregator.unpack(below, SPEC))
    assert packed(tree) == packed(flat)
    assert same_bits(aggregator.finish(tree, adapter)[0], aggregator.finish(flat, adapter)[0])


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (None, ProtocolError, "expected the weights of 2 layers, got None"),
        ([1], ProtocolError, "expected the weights of 2 layers"),
        ([1, -1], ProtocolError, "expected a layer's weight as a count"),
        ([2, 1], UpdateRejected, "a sum its weight cannot reach"),
        ([0, 1 << 30], UpdateRejected, "of at most"),
        ([0, 1], UpdateRejected, "holds a sum its weight cannot reach"),
    ],
)
def test_weights_that_cannot_be_are_refused(layers, error, message):
    partial = folded(LayerMean(), cohort((EVERYTHING,)))
    manifest, _ = unpack_partial(packed(partial), "layer-mean")
    sums = {name: total for segment in partial.factors.whole.segments for name, total in segment.tensors()}
    told = json.loads(json.dumps(manifest)) | {"layers": layers}
    blob = b"".join(bytes(chunk) for chunk in pack_partial(told, sums, {}))
    with pytest.raises(error, match=message):
        LayerMean().unpack(blob, SPEC)
