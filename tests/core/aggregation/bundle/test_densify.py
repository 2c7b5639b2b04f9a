import numpy as np
import pytest

from fedcore.core.aggregation.bundle.bundled_update import BundledUpdate
from fedcore.core.aggregation.bundle.densify import add_dense, check_products, dense_bytes, empty_dense
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import restrict
from tests.core.aggregation.cohort import expand, make_spec, make_update, product, random_keep_set, trained_adapter

FAMILIES = pytest.mark.parametrize("family", ["bert", "gqa", "mqa"])


def case(family="bert", *, sparsity=0.5, size=0.1, rank=4):
    rng, spec = np.random.default_rng(0), make_spec(family)
    adapter = trained_adapter(spec, rng)
    keep_set = random_keep_set(spec, rng, sparsity=sparsity)
    return spec, adapter, make_update(spec, rng, "dev", rank=rank, keep_set=keep_set, size=size)


@FAMILIES
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_the_sum_is_the_weighted_product_increment(family, sparsity):
    spec, adapter, update = case(family, sparsity=sparsity)
    bundled, dense = BundledUpdate.of(update, spec), empty_dense(spec)
    before = restrict(spec, adapter, rank=update.rank, keep_set=update.keep_set)
    after = {name: before[name].astype(np.float64) + update.tensors[name] for name in before}
    for layer, module in spec.modules():
        total = dense[f"layers.{layer}.{module}"]
        add_dense(total, bundled, spec, adapter, layer, module)
        moved = product(after, layer, module) - product(before, layer, module)
        wanted = expand(spec, update.keep_set, layer, module, moved)
        assert np.max(np.abs(total / (update.weight * 2.0**33) - wanted)) <= 2.0**-34 + 1e-12
        assert np.count_nonzero(total) <= moved.size


def test_dense_bytes_are_those_of_the_dense_form():
    spec = make_spec("gqa")
    assert dense_bytes(spec) == sum(total.nbytes for total in empty_dense(spec).values())


@pytest.mark.parametrize("rank", [2, 8])
def test_products_within_the_bound_pass_by_their_peaks_or_by_themselves(rank):
    spec, adapter, update = case(size=0.1, rank=rank)
    check_products(update.key, update, spec, adapter)
    loose = {name: value * (40 if name.endswith(".B") else 0) for name, value in update.tensors.items()}
    large = {name: np.full_like(value, 60.0) if name == "layers.0.q.A" else value * 0 for name, value in loose.items()}
    zeros = {name: value * 0 for name, value in adapter.items()}
    check_products(update.key, BundledUpdate(weight=1, rank=rank, keep_set=update.keep_set, tensors=loose), spec, zeros)
    check_products(update.key, BundledUpdate(weight=1, rank=rank, keep_set=update.keep_set, tensors=large), spec, zeros)


@pytest.mark.parametrize("bad", [63.0, np.nan])
def test_a_product_beyond_the_bound_is_refused_by_layer(bad):
    spec, adapter, update = case()
    tensors = {name: np.zeros_like(value) for name, value in update.tensors.items()}
    tensors["layers.1.v.A"][0, 0], tensors["layers.1.v.B"][0, 0] = bad, 63.0
    bundled = BundledUpdate(weight=1, rank=4, keep_set=update.keep_set, tensors=tensors)
    with pytest.raises(UpdateRejected, match=r"dev for round 1: its product at layers.1.v moved by"):
        check_products(update.key, bundled, spec, adapter)
