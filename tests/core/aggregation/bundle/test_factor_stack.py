import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.aggregation.bundle.factor_stack import UpdateFactors, stacked_factors
from fedcore.core.aggregation.sums.placing import Placement, placement
from tests.core.aggregation.cohort import dense_products, make_cohort, make_spec, trained_adapter


def stack_layer(spec, adapter, updates, layer, module, *, dtype, server_lr):
    key, weight = f"layers.{layer}.{module}", sum(update.weight for update in updates)
    updates = [
        UpdateFactors(
            share=update.weight / weight,
            da=update.tensors[f"{key}.A"],
            db=update.tensors[f"{key}.B"],
            at=placement(spec, update.keep_set, layer, module),
        )
        for update in updates
    ]
    b, a = adapter[f"{key}.B"].astype(dtype), adapter[f"{key}.A"].astype(dtype)
    cut = spec.geometry.cut(module)
    return stacked_factors(b, a, updates, side="out" if cut is None else cut.side, server_lr=server_lr)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-12), (np.float32, 1e-6)])
@pytest.mark.parametrize("family", ["bert", "gqa", "mqa"])
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1))
def test_stack_equals_the_dense_formula(family, dtype, limit, seed):
    rng, spec = np.random.default_rng(seed), make_spec(family)
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    expected = dense_products(spec, adapter, updates, server_lr=0.7)
    for layer, module in spec.modules():
        b, a = stack_layer(spec, adapter, updates, layer, module, dtype=dtype, server_lr=0.7)
        assert b.dtype == a.dtype == dtype
        assert b.shape[1] == a.shape[0] == spec.rank + sum(update.rank for update in updates)
        error = np.linalg.norm(b.astype(np.float64) @ a - expected[layer, module])
        assert error <= limit * np.linalg.norm(expected[layer, module])


def test_known_numbers():
    b, a = np.array([[1.0], [1.0]]), np.array([[1.0, 2.0]])
    bundled = UpdateFactors(
        share=0.5,
        da=np.zeros((1, 2), dtype=np.float32),
        db=np.full((1, 1), 4, dtype=np.float32),
        at=Placement(b_rows=np.array([1])),
    )
    wide_b, wide_a = stacked_factors(b, a, [bundled], side="out", server_lr=1.0)
    assert wide_b.tolist() == [[1.0, 0.0], [0.5, 2.5]]
    assert wide_a.tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert (wide_b @ wide_a).tolist() == [[1.0, 2.0], [3.0, 6.0]]


def test_inputs_are_not_changed():
    rng, spec = np.random.default_rng(0), make_spec()
    adapter, updates = trained_adapter(spec, rng), make_cohort(spec, rng)
    copies = {name: value.copy() for name, value in adapter.items()}
    stack_layer(spec, adapter, updates, 0, "o", dtype=np.float32, server_lr=1.0)
    assert all(np.array_equal(adapter[name], copies[name]) for name in copies)


def test_no_leaves_is_the_product_itself():
    b, a = np.ones((3, 2)), np.ones((2, 4))
    wide_b, wide_a = stacked_factors(b, a, [], side="out", server_lr=1.0)
    assert np.array_equal(wide_b, b) and np.array_equal(wide_a, a)


def test_a_full_and_a_masked_leaf_of_an_input_cut_layer_have_no_cross_terms():
    b, a = np.array([[1.0]]), np.array([[1.0, 1.0]])
    full = UpdateFactors(share=0.5, da=np.ones((1, 2), np.float32), db=np.zeros((1, 1), np.float32), at=Placement())
    masked = UpdateFactors(
        share=0.5,
        da=np.ones((1, 1), np.float32),
        db=np.zeros((1, 1), np.float32),
        at=Placement(a_columns=np.array([1])),
    )
    wide_b, wide_a = stacked_factors(b, a, [full, masked], side="in", server_lr=1.0)
    assert (wide_b @ wide_a).tolist() == [[1.5, 2.0]]
