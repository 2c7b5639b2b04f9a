import numpy as np

from fedcore.core.aggregation.bundle.bundled_update import BundledUpdate, factor_shapes, stacked_bytes
from tests.core.aggregation.cohort import make_cohort, make_spec

SPEC = make_spec()


def test_a_leaf_copies_its_factors_and_nothing_else():
    update = make_cohort(SPEC, np.random.default_rng(0))[1]
    bundled = BundledUpdate.of(update, SPEC)
    assert set(bundled.tensors) == {name for name in update.tensors if not name.startswith("head.")}
    assert all(not np.shares_memory(value, update.tensors[name]) for name, value in bundled.tensors.items())
    assert (bundled.weight, bundled.rank, bundled.keep_set) == (update.weight, update.rank, update.keep_set)


def test_only_borrowed_tensors_are_copied():
    bundled = BundledUpdate.of(make_cohort(SPEC, np.random.default_rng(0))[0], SPEC)
    assert bundled.owned() is bundled
    flat = np.arange(4, dtype=np.float32)
    borrowed = BundledUpdate(weight=1, rank=1, keep_set=bundled.keep_set, tensors={"x": flat[:2].reshape(1, 2)})
    owned = borrowed.owned()
    assert owned.tensors["x"].flags.owndata and owned.tensors["x"].tolist() == [[0.0, 1.0]]


def test_bytes_count_factors_by_rank_and_keep_set():
    for update in make_cohort(SPEC, np.random.default_rng(0)):
        bundled = BundledUpdate.of(update, SPEC)
        shapes = factor_shapes(SPEC, rank=bundled.rank, keep_set=bundled.keep_set)
        assert {name: value.shape for name, value in bundled.tensors.items()} == shapes
        size = stacked_bytes(SPEC, rank=bundled.rank, keep_set=bundled.keep_set)
        assert size == sum(value.nbytes for value in bundled.tensors.values())
