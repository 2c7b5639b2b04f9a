import numpy as np
import pytest

from fedcore.core.aggregation.bundle.bundle_wire import bundle_bytes_bound
from fedcore.core.aggregation.bundle.densify import dense_bytes
from fedcore.core.aggregation.rules.delta_stack import delta_stack
from fedcore.core.codec.container import Entry, unpack
from fedcore.core.errors import ProtocolError, UpdateRejected
from tests.core.aggregation.cohort import (
    fold_all,
    make_cohort,
    make_spec,
    make_update,
    random_keep_set,
    trained_adapter,
)
from tests.core.aggregation.sums.test_partial_wire import forged

SPEC = make_spec()
ADAPTER = trained_adapter(SPEC, np.random.default_rng(9))
STACK = delta_stack()


def cohort(count):
    rng = np.random.default_rng(0)
    keep_sets = [random_keep_set(SPEC, rng, sparsity=sparsity) for sparsity in (0.0, 0.5)]
    return [make_update(SPEC, rng, f"d{i:02}", rank=4, keep_set=keep_sets[i % 2]) for i in range(count)]


def blob_of(count=3, *, adapter=None):
    partial = STACK.start(SPEC, adapter)
    for update in cohort(count):
        partial = STACK.fold(partial, update)
    return b"".join(STACK.pack(partial))


def row(index=0, **changes):
    """One changed row of the manifest's leaves."""
    rows = [[f"d{i:02}", 1, update.weight, 4, i % 2] for i, update in enumerate(cohort(3))]
    rows[index] = [
        changes.get(name, old)
        for name, old in zip(("device", "round", "weight", "rank", "set"), rows[index], strict=True)
    ]
    return {"leaves": rows}


def test_leaves_come_back_with_everything():
    partial = STACK.unpack(blob_of(4), SPEC)
    for update in cohort(4):
        bundled = partial.updates[update.key]
        assert (bundled.weight, bundled.rank, bundled.keep_set) == (update.weight, update.rank, update.keep_set)
        assert all(np.array_equal(value, update.tensors[name]) for name, value in bundled.tensors.items())
        assert not any(value.flags.owndata for value in bundled.tensors.values())
    assert partial.members.keys == {update.key for update in cohort(4)}


def test_equal_keep_sets_travel_once():
    manifest = bytes(unpack(blob_of(6))[0]["partial"].data)
    assert manifest.count(b'"channels"') == 2


def test_the_dense_form_carries_no_leaves_and_is_bounded():
    sizes = [len(blob_of(count, adapter=ADAPTER)) for count in (40, 80)]
    assert sizes[1] - sizes[0] < 40 * 100, "only members are added"
    assert sizes[1] <= bundle_bytes_bound(SPEC, 80)
    partial = STACK.unpack(blob_of(40, adapter=ADAPTER), SPEC)
    assert partial.dense and not partial.updates and partial.bytes_stacked >= dense_bytes(SPEC)


def test_the_bound_stops_growing_with_the_stacks():
    per_device = bundle_bytes_bound(SPEC, 1001) - bundle_bytes_bound(SPEC, 1000)
    assert per_device == bundle_bytes_bound(SPEC, 5001) - bundle_bytes_bound(SPEC, 5000) < 1000


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"leaves": None}, ProtocolError, "expected a list of members"),
        ({"leaves": [["d00", 1]]}, ProtocolError, "expected leaves as"),
        (row(weight=0), UpdateRejected, "d00 for round 1: expected a weight of at least 1"),
        (row(weight=-1), ProtocolError, "expected a weight as a count"),
        (row(weight=2**24), UpdateRejected, "do not add up"),
        (row(rank=0), UpdateRejected, "a rank from 1 to 8"),
        (row(rank=9), UpdateRejected, "a rank from 1 to 8"),
        (row(rank=3), UpdateRejected, "d00 for round 1: expected 1"),
        (row(set=2), UpdateRejected, "one of 2 keep-sets"),
        (row(device="a"), UpdateRejected, "do not add up"),
        (row(2, round=2), UpdateRejected, "do not add up"),
        ({"keep_sets": {}}, ProtocolError, "expected a list of keep-sets"),
        ({"keep_sets": [1, 2]}, ProtocolError, "not a keep-set"),
        ({"keep_sets": [{"channels": [[0]], "heads": [[0]]}] * 2}, ProtocolError, "keep-set has 1 layers"),
        ({"bytes_stacked": 0}, UpdateRejected, "0 stacked bytes do not fit"),
        ({"bytes_stacked": 2**40}, UpdateRejected, "stacked bytes do not fit"),
        ({"bytes_stacked": None}, ProtocolError, "expected bytes_stacked as a count"),
        ({"weight": 2**23}, UpdateRejected, "do not add up"),
    ],
)
def test_a_false_manifest_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        STACK.unpack(forged(blob_of(), **changes), SPEC)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 64.0])
def test_values_of_leaves_are_looked_at(bad):
    entry = unpack(blob_of())[0]["leaf.1"]
    values = np.frombuffer(entry.data, dtype=np.float32).copy()
    values[-1] = bad
    false = Entry(tag="F32", shape=entry.shape, data=values.view(np.uint8).data)
    with pytest.raises(UpdateRejected, match="d01 for round 1: expected finite increments below 64"):
        STACK.unpack(forged(blob_of(), add={"leaf.1": false}), SPEC)


def test_missing_and_surplus_stacks_are_refused():
    entry = unpack(blob_of())[0]["leaf.2"]
    with pytest.raises(UpdateRejected, match="d02 for round 1: expected"):
        STACK.unpack(forged(blob_of(), drop=("leaf.2",)), SPEC)
    with pytest.raises(UpdateRejected, match=r"unexpected tensors \['leaf.3'\]"):
        STACK.unpack(forged(blob_of(), add={"leaf.3": entry}), SPEC)


def test_a_dense_bundle_must_have_reached_the_limit():
    blob = blob_of(40, adapter=ADAPTER)
    with pytest.raises(UpdateRejected, match="stacked bytes do not fit"):
        STACK.unpack(forged(blob, bytes_stacked=dense_bytes(SPEC) - 1), SPEC)
    with pytest.raises(UpdateRejected, match=r"expected integer sums layers\.0\.q of"):
        STACK.unpack(forged(blob, drop=("layers.0.q", "layers.0.q/low", "layers.0.q/high")), SPEC)


def test_a_bundle_of_another_adapter_is_refused():
    with pytest.raises(ProtocolError, match=r"head unit indices in \[0, 3\)"):
        STACK.unpack(blob_of(), make_spec("gqa"))
    with pytest.raises(UpdateRejected, match="a rank from 1 to 2"):
        STACK.unpack(blob_of(), make_spec(rank=2))


def test_the_empty_bundle_travels():
    partial = STACK.unpack(b"".join(STACK.pack(STACK.start(SPEC))), SPEC)
    joined = STACK.merge(partial, fold_all(STACK, SPEC, make_cohort(SPEC, np.random.default_rng(3))))
    assert len(joined.members.keys) == 4
